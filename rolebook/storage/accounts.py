"""Users, logins and API keys in the session log's file: :class:`SqliteAccounts`."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Concatenate, ParamSpec, TypeVar

from sqlite_utils import Database

from rolebook.core.access import (
    EVERYTHING,
    LOCAL,
    ApiKey,
    Caller,
    Role,
    User,
    acting_for,
    payer,
)
from rolebook.core.budget import (
    Limits,
    RateLimit,
    Reserve,
    Spending,
    require_rate,
)
from rolebook.core.errors import LoginError, StorageError
from rolebook.core.session import new_id
from rolebook.core.shared import SharedRates
from rolebook.storage import api_key as keys
from rolebook.storage import user as users
from rolebook.storage.log import SqliteLog
from rolebook.storage.password import hash_password, is_password

P = ParamSpec("P")
T = TypeVar("T")

#: How long it may take until a server notices that another process has made the first user, or removed the last.
_NOTICE_S = 1.0
_PREFIX = "rb-"
_HINT_LENGTH = 8
_LONGEST_TOKEN = 200

#: Failed logins: for one address, and for one name from wherever.
_FAILURES_OF_ADDRESS = (20, 300.0)
_FAILURES_OF_NAME = (10, 300.0)
#: So many names with addresses are remembered from which they have logged in.
_MOST_HOMES = 10_000


class SqliteAccounts:
    """Who may use Rolebook. Safe for threads; every method may raise StorageError.

    Of passwords a salted scrypt hash is kept. Of tokens SHA-256 is enough: they are 256 random bits, so there is
    nothing to guess that a slow hash would make slower.
    """

    def __init__(self, log: SqliteLog) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._has_users: bool | None = None
        self._look_again_at = 0.0
        self._of_address = RateLimit(*_FAILURES_OF_ADDRESS)
        self._of_name = RateLimit(*_FAILURES_OF_NAME)
        self._homes: dict[tuple[str, str], None] = {}
        self._rates: dict[int, tuple[int, RateLimit]] = {}
        self._shared_rates: SharedRates | None = None

    def has_users(self) -> bool:
        """Whether there is any user; noticed a second late if another process has made the first."""
        if self._has_users is None or time.monotonic() > self._look_again_at:
            self._has_users = self._read(users.has_users)
            self._look_again_at = time.monotonic() + _NOTICE_S
        return self._has_users

    def forget(self) -> None:
        """Look again at the next question whether there is any user."""
        self._has_users = None

    @property
    def had_users(self) -> bool | None:
        """What was last seen of that, for when the file cannot be read; ``None``: it never could."""
        return self._has_users

    def create_user(self, name: str, role: Role, password: str) -> User:
        """Raises InputError, ConflictError."""
        user = self._log.change(users.create_user, name, role, hash_password(password))
        self.forget()
        return user

    def list_users(self) -> Sequence[User]:
        """All of them, by name."""
        return self._read(users.list_users)

    def get_user(self, name: str) -> User:
        """Raises NotFoundError."""
        return self._read(users.get_user, name)

    def set_password(self, user: User, password: str, *, keeping: str = "") -> None:
        """Change a password, and end all logins but the one with this token. Raises InputError."""
        hashed = hash_password(password)
        self._log.change(users.set_password, user, hashed, but=_hash(keeping))

    def set_role(self, user: User, role: Role) -> None:
        """Raises ConflictError if it would leave no administrator."""
        self._log.change(users.set_role, user, role)

    def remove_user(self, user: User, *, may_be_last: bool = False) -> None:
        """With their keys and logins; what they said stays.

        Raises ConflictError if it would leave no administrator, or nobody at all unless that is meant.
        """
        self._log.change(users.remove_user, user, may_be_last=may_be_last)
        self.forget()

    def is_password_of(self, user: User, password: str, *, address: str) -> bool:
        """Whether it is theirs, as somebody says who is at an address. Raises RateLimitError as ``log_in``."""
        return self._find(user.name, password, address) is not None

    def log_in(self, name: str, password: str, *, address: str, instead_of: str = "") -> str:
        """Begin a login. Returns its token, which is new whatever the browser had before.

        Arguments:
            address: where the caller is.
            instead_of: the token that the browser has; that login ends.

        Raises LoginError for a name that is unknown and a password that is wrong, both after the same time;
        RateLimitError where there were too many of these.
        """
        user = self._find(name, password, address)
        if user is None:
            raise LoginError("This name and this password do not belong together.")
        token = secrets.token_urlsafe(32)
        self._log.change(users.begin_login, user, _hash(token), instead_of=_hash(instead_of))
        return token

    def _find(self, name: str, password: str, address: str) -> User | None:
        """Who has this name and this password. Raises RateLimitError where too many were wrong."""
        moment, folded = time.monotonic(), users.fold_name(name.strip())[:100]
        require_rate(self._of_address.take(address, moment))
        # Where somebody has logged in before they are not kept out by whoever guesses their password elsewhere.
        home = folded, address
        guessed = home if home in self._homes else folded
        wait_s = self._of_name.take(guessed, moment)
        if wait_s:
            self._of_address.give_back(address, moment)
            require_rate(wait_s)
        known = self._read(users.find_password, name)
        if not is_password(password, known[1] if known else None) or known is None:
            return None
        self._of_address.give_back(address, moment)
        self._of_name.give_back(guessed, moment)
        with self._lock:
            self._homes[home] = None
            if len(self._homes) > _MOST_HOMES:
                del self._homes[next(iter(self._homes))]
        return known[0]

    def find_login(self, token: str) -> User | None:
        """Who has logged in with this token, while that has not expired."""
        found = self._read(users.find_login, _hash(token))
        if found is None:
            return None
        user, is_to_note = found
        if is_to_note:
            # A file that cannot be written at the moment is no reason to turn anybody away.
            with suppress(StorageError):
                self._log.change(users.note_login, _hash(token))
        return user

    def log_out(self, token: str) -> None:
        """End a login."""
        self._log.change(users.end_login, _hash(token))

    def create_key(
        self,
        user: User,
        name: str,
        *,
        scope: tuple[str, ...] = (EVERYTHING,),
        limits: Limits | None = None,
    ) -> tuple[ApiKey, str]:
        """Make a key. Returns it with its token, which is known to nobody afterwards but whoever gets it here."""
        token = _PREFIX + secrets.token_urlsafe(32)
        key = ApiKey(
            number=0,
            id=new_id(),
            user=user,
            name=" ".join(name.split())[:60],
            hint=token[:_HINT_LENGTH],
            scope=scope,
            limits=limits or Limits(),
        )
        return self._log.change(keys.create_key, key, _hash(token)), token

    def list_keys(self, user: User | None = None) -> Sequence[ApiKey]:
        """The keys of a user, or of all, the newest first; revoked ones last."""
        return self._read(keys.list_keys, user.number if user else None)

    def get_key(self, key_id: str) -> ApiKey:
        """Raises NotFoundError."""
        return self._read(keys.get_key, key_id)

    def revoke_key(self, key: ApiKey) -> None:
        """From now on it opens nothing."""
        self._log.change(keys.revoke_key, key)

    def find_key(self, token: str) -> ApiKey | None:
        """The key that a token is of; revoked ones are none."""
        return self._read(keys.find_key, _hash(token))

    def spending(self, key: ApiKey) -> tuple[Spending, Spending]:
        """What a key has used today and this month, in UTC."""
        return self._log.spending(key)

    def last_used(self, key: ApiKey) -> str:
        """When a turn was last begun with a key; empty if none was."""
        return self._read(keys.last_used, key)

    def share(self, rates: SharedRates) -> None:
        """Let the requests count too that other processes of this server get."""
        self._shared_rates = rates

    def require_rate(self, key: ApiKey) -> None:
        """Count a request. Raises RateLimitError if the key has had too many."""
        most = key.limits.requests_per_minute
        if most is None:
            return
        if self._shared_rates is not None:
            require_rate(self._shared_rates.take(key.number, most, 60.0, time.monotonic()))
            return
        with self._lock:
            known = self._rates.get(key.number)
            if known is None or known[0] != most:
                known = self._rates[key.number] = (most, RateLimit(most, 60.0))
        require_rate(known[1].take(key.number, time.monotonic()))

    def require_budget(self) -> None:
        """Raises BudgetError if the key that pays has used up its budget."""
        key = payer().key
        if key is not None and key.limits.has_budget:
            self._log.require_budget(key)

    def reserve(self, key: ApiKey, *, tokens: int, cost: float) -> Reserve:
        """What a turn counts as that is to begin on the account of a key, until its use is known.

        That is a usual turn of this key, and no less than the tokens and the cost that are given. Raises BudgetError;
        asked again when the turn is recorded, as others may begin meanwhile, in other processes too.
        """
        return self._log.require_budget(key).reserve(key.number, tokens=tokens, cost=cost)

    def _read(
        self, function: Callable[Concatenate[Database, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Who may what is looked up in the whole file, whoever calls."""
        with acting_for(LOCAL):
            return self._log.read(function, *args, **kwargs)

    def caller_of_token(self, token: str) -> Caller:
        """On whose behalf a program calls. Raises LoginError for a token that is no key's."""
        key = self.find_key(token)
        if key is None:
            raise LoginError("This API key is not known here. Check it, or ask for another one.")
        return Caller(key.user, key)


def _hash(token: str) -> bytes:
    """What a token is found by: a digest tells nothing by how long a look for it takes."""
    return hashlib.sha256(token[:_LONGEST_TOKEN].encode("utf-8", "surrogatepass")).digest()
