"""What each route asks of whoever calls it. A route that is not listed is for administrators, and a test fails."""

from __future__ import annotations

from collections.abc import Mapping

from rolebook.core.access import Right

_ENDPOINTS: Mapping[Right, tuple[str, ...]] = {
    Right.OPEN: (
        "static",
        "report.static",
        "status.report_health",
        "status.report_readiness",
        "languages.choose",
        "themes.choose",
        "logins.show",
        "logins.log_in",
    ),
    Right.LOOK: (
        "personas.list",
        "personas.show",
        "personas.preview",
        "personas.return_to_form",
        "comparisons.list",
        "comparisons.delete",
        "comparisons.restore",
        "comparison_exports.export",
        "grid.show",
        "grid.events",
        "grid.show_cell",
        "grid.state",
        "grid.rename",
        "grid.stop",
        "grid.return_to_comparison",
        "evidence.show",
        "votes.begin",
        "votes.draw",
        "votes.show",
        "votes.cast",
    ),
    Right.TALK: (
        "sessions.start",
        "sessions.show",
        "sessions.rename",
        "sessions.star",
        "sessions.tag",
        "sessions.return_to_session",
        "sessions.list",
        "sessions.delete",
        "sessions.restore",
        "exports.export",
        "turns.create",
        "turns.show",
        "turns.stop",
        "turns.choose",
        "turns.mark",
        "turns.check",
        "turns.fork",
        "turns.show_request",
        "turns.show_reply",
        "gateway.list_models",
        "gateway.show_model",
        "gateway.create_chat_completion",
        "gateway.create_completion",
    ),
    Right.WRITE: (
        "sessions.save_persona",
        "library.list",
        "library.list_files",
        "library.show",
        "library.show_again",
        "library.look",
        "library.names",
        "saving.save",
        "saving.return_to_file",
        "saving.begin",
        "saving.duplicate",
        "saving.rename",
        "saving.delete",
        "saving.undelete",
        "trying.begin",
        "trying.return_to_file",
        "timeline.show",
        "timeline.compare",
        "timeline.restore",
        "timeline.label",
        "timeline.return_to_history",
        "timeline.return_from_restoring",
    ),
    Right.COMPARE: (
        "comparisons.new",
        "comparisons.edit",
        "comparisons.return_to_form",
        "comparisons.preview",
        "comparisons.download",
        "comparisons.create",
        "grid.start",
        "grid.resume",
        "grid.retry",
    ),
    Right.ACCOUNT: (
        "logins.log_out",
        "logins.return_to_account",
        "account.show",
        "account.change_password",
        "account.create_key",
        "account.revoke_key",
        "account.return_to_account",
    ),
    Right.WATCH: ("metrics.show",),
    Right.ADMINISTER: (
        "status.show",
        "status.ask_for_models",
        "status.look_for_servers",
        "status.try_key_again",
        "users.list",
        "users.create",
        "users.set_role",
        "users.set_password",
        "users.remove",
        "users.return_to_users",
    ),
}

RIGHTS: Mapping[str, Right] = {
    endpoint: right for right, endpoints in _ENDPOINTS.items() for endpoint in endpoints
}


def right_of(endpoint: str) -> Right:
    """What a route asks for."""
    return RIGHTS.get(endpoint, Right.ADMINISTER)
