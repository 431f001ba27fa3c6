"""The one place that decides who may do what.

`ACTIONS` is the table of security §3 as data: for each action a verdict per
cell, a cell being what a user is on a workspace. `check` raises with the exact
text, `verdict` tells without raising. Everything is a pure function of its
arguments: who owns a workspace is told by the caller. Right letters: server §4.2.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from enum import Enum
from typing import Literal

from hypha.audit import audit
from hypha.auth.identity import ROOT_ID, Right, User, home_of
from hypha.auth.scopes import RANK, stronger

__all__ = [
    "ACTIONS",
    "CELLS",
    "SYSTEM_WORKSPACES",
    "Cell",
    "Verdict",
    "cell_of",
    "check",
    "check_service",
    "has_right",
    "is_owner",
    "may_take_over",
    "right",
    "verdict",
]

Cell = Literal["anon", "r", "rw", "a", "owner", "other", "root"]

#: Order of the columns of `ACTIONS`.
CELLS: tuple[Cell, ...] = ("anon", "r", "rw", "a", "owner", "other", "root")

#: Workspaces of the server itself (server §2.2); nobody deletes them.
SYSTEM_WORKSPACES = frozenset({"public", "ws-user-root", "ws-anonymous"})


class Verdict(Enum):
    """What the table says, by the letters of security §3."""

    YES = "y"
    PERMISSION = "P"
    NON_PUBLIC = "N"
    ADMIN_ONLY = "G"
    NO_RIGHT = "H"
    UNREGISTERED = "U"
    OVERWRITE = "O"
    ID_PREFIX = "I"
    FORBIDDEN_EVENT = "F"
    PUBLIC_ONLY = "L"  # allowed, but only what is public is shown
    CONNECT = "C"
    DROP = "D"  # the frame is dropped; rejected when it has a session
    HTTP_FORBIDDEN = "4"
    OWN_WORKSPACE = "o"  # allowed where the user is connected
    UNREACHABLE = "-"  # the action cannot name another workspace


#: One line per action, one letter per cell: anon r rw a owner other root.
_TABLE = """
echo                     yPyyy-y
log                      yPyyy-y
log_event                yPyyy-y
set_env                  yPyyy-y
get_env                  yPyyy-y
register_service_type    yPyyy-y
queue.push               yPyyy-y
queue.pop                yPyyy-y
get_events               yyyyy-y
get_event_stats          yyyyy-y
check_status             yyyyy-y
get_summary              yyyyy-y
search_services          yyyyy-y
queue.peek               yyyyy-y
queue.get_length         yyyyy-y
text_frame               yyyyy-y
list_workspaces          yyyyyyy
hypha-login              yyyyyyy
get_service.public       yyyyyyy
revoke_token.own         yyyyyyy
manager.built-in         yyyyyyy
frame.method             yyyyyyy
get_service_type         yyyyyPy
list_service_types       yyyyyPy
list_clients             yyyyyPy
get_workspace_info       yyyyyPy
ping                     yyyyyPy
apps.read                yyyyyPy
subscribe                yyyyyFo
unsubscribe              yyyyyFo
register_service         yPyyyIy
register_service.foreign IIIIIII
unregister_service       yPyyyPy
bookmark                 yPyyyPy
unbookmark               yPyyyPy
unregister_service.other yPPyyPy
revoke_token             yPPyyPy
cleanup                  yPPyyPy
delete_workspace         yPPyyPy
get_service.protected    yyyyyNy
list_services            yyyyyLy
list_services.unlisted   yyyyyIo
generate_token           yGGyyHy
generate_token.any       HHHHHHy
parse_token              yyyyy4y
create_workspace         UUUyyyy
create_workspace.over    UOOOyOy
admin-utils              NNNNNNy
apps.write               PPyyyPy
health                   444444y
connect                  yyyyyCy
rpc.post                 yyyyy44
frame.other              yyyyyDo
broadcast                yDyyyDo
frame.server_only        DDDDDDD
"""


def _read(table: str) -> dict[str, Mapping[Cell, Verdict]]:
    rows = (line.split() for line in table.strip().splitlines())
    return {name: dict(zip(CELLS, map(Verdict, letters), strict=True)) for name, letters in rows}


#: Verdict of each action in each cell. Names with a dot are the special cases
#: of a method: ``.foreign`` another's client id or ``built-in``, ``.other``
#: another client's service, ``.over`` overwriting or changing owners,
#: ``.any`` workspace ``*``.
ACTIONS: Mapping[str, Mapping[Cell, Verdict]] = _read(_TABLE)


# --------------------------------------------------------------------- rights


def is_owner(user: User, workspace: str, owners: Collection[str] = ()) -> bool:
    """Whether *user* owns *workspace*: by its name, by id, or by a verified e-mail.

    A child owns nothing, whoever its parent is (security S16).
    """
    if user.is_child:
        return False
    if workspace == home_of(user.id) or user.id in owners:
        return True
    return user.email is not None and user.email_verified and user.email in owners


def right(user: User, workspace: str, owners: Collection[str] = ()) -> Right | None:
    """The right letter of *user* on *workspace*: the strongest of word, ``*`` and ownership.

    Args:
        user: who asks.
        workspace: the workspace asked about.
        owners: ids and e-mails of the owners in its record.
    """
    if is_owner(user, workspace, owners):
        return "a"
    return stronger(user.scope.workspaces.get(workspace), user.scope.workspaces.get("*"))


def has_right(user: User, workspace: str, least: Right, owners: Collection[str] = ()) -> bool:
    """Whether *user* has at least the right *least* on *workspace*."""
    letter = right(user, workspace, owners)
    return letter is not None and RANK[letter] >= RANK[least]


def cell_of(user: User, workspace: str, owners: Collection[str] = ()) -> Cell:
    """What *user* is on *workspace*, as a column of the table."""
    if not user.is_child and (user.id == ROOT_ID or user.scope.workspaces.get("*") == "a"):
        return "root"
    letter = right(user, workspace, owners)
    if letter is None:
        return "other"
    if user.is_anonymous and workspace == home_of(user.id) and not user.is_child:
        return "anon"
    return "owner" if is_owner(user, workspace, owners) else letter


def may_take_over(newcomer: User, former: User, workspace: str, owners: Collection[str] = ()) -> bool:
    """Whether *newcomer* may have the client id of *former*, who is silent or gone (security S9).

    True for administrators, and for the same user or another child of it with
    at least the right of *former*: a reader does not become a provider.
    """
    new = right(newcomer, workspace, owners)
    if new is None or new == "a":
        return new is not None
    old = right(former, workspace, owners)
    same = (newcomer.parent or newcomer.id) == (former.parent or former.id)
    return same and (old is None or RANK[new] >= RANK[old])


# -------------------------------------------------------------------- verdicts


def verdict(user: User, action: str, workspace: str, owners: Collection[str] = ()) -> Verdict:
    """What the table says for *user* doing *action* on *workspace*.

    `Verdict.OWN_WORKSPACE` is resolved: it comes out as YES, or as what
    anybody else without a right is told.
    """
    row = ACTIONS[action]
    found = row[cell_of(user, workspace, owners)]
    if found is Verdict.OWN_WORKSPACE:
        found = Verdict.YES if workspace == user.scope.current_workspace else row["other"]
    if found is Verdict.UNREACHABLE:
        return Verdict.PERMISSION
    if action == "delete_workspace" and workspace in SYSTEM_WORKSPACES:
        return Verdict.PERMISSION
    if action == "create_workspace" and user.is_anonymous:
        # An administrator's child of an anonymous user is nobody's registered user either.
        return Verdict.UNREGISTERED
    return found


def check(
    user: User, action: str, workspace: str, owners: Collection[str] = (), *, subject: str = "", text: str | None = None
) -> Verdict:
    """Let *user* do *action* on *workspace*, or raise.

    Args:
        user: who asks.
        action: a key of `ACTIONS`.
        workspace: the workspace it happens in. For ``create_workspace`` the
            one the user is connected to.
        owners: ids and e-mails of the owners of *workspace*.
        subject: what the text names besides: the event, the workspace part of
            a service id, the workspace to be overwritten.
        text: used instead of the table's text.

    Returns:
        `Verdict.YES`, or `Verdict.PUBLIC_ONLY`: only public things may be shown.

    Raises:
        PermissionError: not allowed.
        ValueError: subscribing to a foreign event.
    """
    found = verdict(user, action, workspace, owners)
    if found in {Verdict.YES, Verdict.PUBLIC_ONLY}:
        return found
    message = text if text is not None else _TEXTS[found](user, action, workspace, subject)
    audit("refusal", user=user.id, action=action, workspace=workspace)
    raise ValueError(message) if found is Verdict.FORBIDDEN_EVENT else PermissionError(message)


def check_service(
    user: User,
    workspace: str,
    owners: Collection[str] = (),
    *,
    visibility: str,
    authorized_workspaces: Collection[str] | None = None,
) -> None:
    """Let *user* get a service of *workspace*, or raise (server §2.5).

    Raises:
        PermissionError: it is protected, and neither a right nor the list of
            authorized workspaces admits the user.
    """
    if visibility in {"public", "unlisted"}:
        return
    if authorized_workspaces and user.scope.current_workspace in authorized_workspaces:
        return
    check(user, "get_service.protected", workspace, owners)


# ----------------------------------------------------------------------- texts

_Text = Callable[[User, str, str, str], str]


def _permission(_user: User, _action: str, workspace: str, _subject: str) -> str:
    return f"Permission denied for workspace {workspace}"


def _non_public(_user: User, _action: str, workspace: str, _subject: str) -> str:
    return f"Permission denied for non-public service in workspace {workspace}"


def _admin_only(_user: User, _action: str, _workspace: str, _subject: str) -> str:
    return "Only admin can generate token."


def _no_right(_user: User, _action: str, workspace: str, _subject: str) -> str:
    return f"You do not have any permission for workspace: {workspace}"


def _unregistered(_user: User, _action: str, _workspace: str, _subject: str) -> str:
    return "Only registered user can create workspace."


def _overwrite(user: User, _action: str, workspace: str, subject: str) -> str:
    return f"Permission denied: user {user.id} cannot overwrite workspace {subject or workspace}"


def _id_prefix(user: User, action: str, workspace: str, subject: str) -> str:
    current = user.scope.current_workspace
    if action == "list_services.unlisted":
        return f"Cannot include unlisted services without read permission for workspace {workspace}."
    if action == "register_service.foreign":
        return f"Service ID '{subject}' belongs to another client. Permission denied for workspace {workspace}"
    return (
        f"Service ID workspace prefix '{subject or workspace}' does not match the current workspace '{current}'. "
        "Cannot register services in other workspaces."
    )


def _forbidden_event(_user: User, _action: str, workspace: str, subject: str) -> str:
    return f"Subscription to event '{subject}' is forbidden. It belongs to workspace {workspace}."


def _connect(_user: User, _action: str, workspace: str, _subject: str) -> str:
    return f"Permission denied for workspace: {workspace}"


def _drop(user: User, action: str, workspace: str, _subject: str) -> str:
    if action == "broadcast" and workspace == user.scope.current_workspace:
        return (
            f"Read-only client {workspace}/{user.scope.client_id} cannot broadcast messages. "
            "Only point-to-point messages are allowed for read-only clients."
        )
    return f"Permission denied for workspace {workspace}"


def _http_forbidden(_user: User, action: str, workspace: str, _subject: str) -> str:
    if action == "parse_token":
        return f"403: Token is not authorized for workspace '{workspace}'"
    return f"Permission denied for workspace {workspace}"


_TEXTS: Mapping[Verdict, _Text] = {
    Verdict.PERMISSION: _permission,
    Verdict.NON_PUBLIC: _non_public,
    Verdict.ADMIN_ONLY: _admin_only,
    Verdict.NO_RIGHT: _no_right,
    Verdict.UNREGISTERED: _unregistered,
    Verdict.OVERWRITE: _overwrite,
    Verdict.ID_PREFIX: _id_prefix,
    Verdict.FORBIDDEN_EVENT: _forbidden_event,
    Verdict.CONNECT: _connect,
    Verdict.DROP: _drop,
    Verdict.HTTP_FORBIDDEN: _http_forbidden,
}
