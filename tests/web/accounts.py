"""Users with their browsers and keys, for tests of who may what."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from rolebook.core.access import Role, User
from rolebook.core.budget import Limits
from rolebook.storage import user as users
from rolebook.storage.password import hash_password
from rolebook.wiring import Rolebook

PASSWORD = "correct horse"


@cache
def hash_of(password: str) -> str:
    return hash_password(password)


@dataclass(frozen=True, slots=True)
class Somebody:
    """A user and the browser in which they have logged in."""

    user: User
    browser: FlaskClient


@dataclass(frozen=True, slots=True)
class People:
    """Who uses an application."""

    app: Flask
    rolebook: Rolebook
    known: dict[str, Somebody] = field(default_factory=dict)

    def add(self, name: str, role: str = "reader") -> Somebody:
        """Somebody who has logged in."""
        # As SqliteAccounts does it, without working out the same costly hash again and again.
        log, token = self.rolebook.log, secrets.token_urlsafe(32)
        user = log.change(users.create_user, name, Role(role), hash_of(PASSWORD))
        digest = hashlib.sha256(token.encode()).digest()
        log.change(users.begin_login, user, digest, instead_of=b"")
        self.rolebook.accounts.forget()
        browser = self.app.test_client()
        browser.set_cookie("rolebook-login", token)
        self.known[name] = Somebody(user, browser)
        return self.known[name]

    def program(self, name: str, *scope: str, **limits: Any) -> FlaskClient:
        """A program that calls with a key of somebody."""
        _, token = self.rolebook.accounts.create_key(
            self.known[name].user, "program", scope=scope or ("*",), limits=Limits(**limits)
        )
        return program_with(self.app, token)


def program_with(app: Flask, token: str) -> FlaskClient:
    """A program that calls with a token."""
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    client.environ_base["HTTP_ACCEPT"] = "application/json"
    return client
