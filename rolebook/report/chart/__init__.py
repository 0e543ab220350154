"""Charts as geometry: where scales, ticks, dots and labels lie. ``charts.html`` draws them.

Across, places are shares of the width in per cent; down, they are pixels. So a chart is as wide as there is room, and
its letters never shrink. What has to fit is measured for the narrowest place and, where that differs, for a wide one.
"""
