"""The JSON API: what the pages do, for programs. Its document says what there is, ``docs/api.md`` how it is used."""
