# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Site files read with Ansible's vault and Ansible's host ranges."""

from __future__ import annotations

import pathlib
import re
import textwrap
import typing as t

from ansible.errors import AnsibleError, AnsibleFileNotFound
from ansible.plugins.inventory import detect_range, expand_hostname_range

from ansible_collections.sciops.sites.plugins.plugin_utils._declaration import Site
from ansible_collections.sciops.sites.plugins.plugin_utils._source import SourceError, load_documents

SUFFIXES = (".site.yml", ".site.yaml")
_MOST_HOSTS = 100000
_RANGE_WORDS = "a range is written [first:last] or [first:last:step]"


def expand(pattern: str) -> list[str]:
    """The hosts of a pattern such as `c9-[1:12].example`; ValueError with the reason."""
    if not detect_range(pattern):
        return [pattern]
    many = 1
    for first, last in re.findall(r"\[(\d*):(\d+)", pattern):
        many *= max(0, int(last) - int(first or 0) + 1)
    if many > _MOST_HOSTS:
        raise ValueError(f"more than {_MOST_HOSTS} hosts")
    try:
        hosts = list(expand_hostname_range(pattern))
    except AnsibleError as exc:
        raise ValueError(str(exc)) from exc
    except (ValueError, IndexError) as exc:
        raise ValueError(_RANGE_WORDS) from exc
    if not hosts:
        raise ValueError("the range is empty")
    return hosts


def vault_value(loader: t.Any, cipher: str) -> t.Any:
    """The encrypted value as Ansible holds it; its text decrypts it."""
    return loader.load("!vault |\n" + textwrap.indent(cipher, "  ") + "\n")


def read(path: str, loader: t.Any) -> Site:
    """The site of a file and its layers, decrypted where needed.

    `loader` is Ansible's DataLoader. Raises SourceError where a file cannot be read, RuntimeError where jsonschema is
    missing.
    """

    def text_of(file: str) -> str:
        try:
            if hasattr(loader, "get_text_file_contents"):
                text = loader.get_text_file_contents(file).encode()
            else:
                text = loader._get_file_contents(file)[0]
            return str(text, "utf-8")  # text without Ansible's tags, which YAML readers in C do not take
        except AnsibleFileNotFound as exc:
            raise SourceError(f"{file}: cannot be read: there is no such file") from exc
        except UnicodeError as exc:
            raise SourceError(f"{file}: is not UTF-8 text: {exc}") from exc
        except (AnsibleError, OSError) as exc:
            raise SourceError(f"{file}: cannot be read: {exc.__cause__ or exc}") from exc

    def decrypt(cipher: str) -> str:
        return str(vault_value(loader, cipher))

    site = Site(load_documents(path, text_of, decrypt), expand)
    site.encrypted = any(_begins_encrypted(document.file) for document in site.documents)
    return site


def _begins_encrypted(path: str) -> bool:
    with pathlib.Path(path).open("rb") as file:
        return file.read(14) == b"$ANSIBLE_VAULT"


def confidential(site: Site) -> bool:
    """True where something in the files of the site is encrypted, so that no copy of it may be kept."""
    return site.encrypted or any(document.secret for document in site.documents)
