#!/usr/bin/python
# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: release_build
short_description: Build a release beside the one that is live
version_added: 0.1.0
description:
  - Makes a virtual environment or fetches an image into C(builds) below O(root). What is live is not touched, and no
    link is switched; M(sciops.sites.release_switch) does that.
  - A build is known by what goes into it. One that is there whole is taken as it is, so the same input is built once.
  - A build that fails leaves nothing but its log. What a run leaves that was ended in the middle is removed by the next
    one. Of two runs at one time the second one waits, and takes what the first one made.
  - Old builds are removed by M(sciops.sites.release_switch), together with the releases that need them.
author:
  - sciops.sites contributors (@sciops)
requirements:
  - V(venv) needs a Python with C(venv) and C(ensurepip) on the host
  - V(apptainer) needs apptainer 1.2 or later on the host
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return the changed status prediction without modifying anything.
  diff_mode:
    support: full
    description: Returns the names of the builds before and after.
  idempotent:
    support: full
    description: A build that is there whole is not made again.
  platform:
    support: full
    platforms: posix
    description: Platforms of the host. It needs Python 3.8 or later.
options:
  root:
    description: Folder of the target. It is made where it is missing, mode 0750.
    type: path
    required: true
  version:
    description: Version of what is built. It decides what is built only where O(settings) has C(unlocked).
    type: str
    required: true
  method:
    description: How it is built, V(venv) or V(apptainer).
    type: str
    required: true
  settings:
    description:
      - Settings of the method. One that is null counts as not given, one that the method does not have is a fault.
      - "V(venv) has C(path), the link that will lead to the environment; C(python), a name or path, by default
        C(python3); C(prelude), lines of shell such as C(module load python/3.11), run in a login shell before each
        command; C(requirements), the text of a requirements file; C(options), a list of words for C(pip install);
        C(unlocked), whether requirements without a version are taken; C(smoke), the words of a command that must end
        well, its first one looked for in the environment."
      - "V(apptainer) has C(image), the link that will lead to the image; C(source), an absolute path or an address
        (C(file://), C(oras://), C(docker://), C(library://), C(https://)); C(digest), C(sha256:) and the digits that
        C(sha256sum) of the image file says, not needed where the source ends in C(@sha256:) and 64 digits;
        C(program), by default C(apptainer); C(username) at the registry; C(smoke), the words of a command that must end
        well in the image."
    type: dict
    required: true
  secrets:
    description:
      - Settings that are secret. They are in no command line, no log, and no file that others may read.
      - V(venv) has C(index_url), the address of a package index, with a password where it needs one.
      - V(apptainer) has C(password), for a source at C(oras://) or C(docker://). Logins of the user stay as they are.
    type: dict
    default: {}
  timeout:
    description: Seconds for all of it, waiting for another run included.
    type: float
    default: 1800
seealso:
  - module: sciops.sites.release_switch
  - module: sciops.sites.host_check
"""

EXAMPLES = r"""
- name: Make the environment of a release from a folder of wheels
  sciops.sites.release_build:
    root: /opt/jaws/acme-prod
    version: "2.8"
    method: venv
    settings:
      path: /opt/jaws/acme-prod/site
      prelude: module load python/3.11
      requirements: "{{ lookup('ansible.builtin.file', 'requirements.txt') }}"
      options: [--no-index, --find-links, /srv/wheels]
      smoke: [jaws-site, --version]
  register: built

- name: Fetch the image of a release
  sciops.sites.release_build:
    root: /opt/jaws/acme-prod
    version: "2.8"
    method: apptainer
    settings:
      image: /opt/jaws/acme-prod/bin/site-2.8.sif
      source: oras://registry.example.org/jaws/site:apptainer-2.8
      digest: sha256:7dd1809c1323fc91342f20f389501f4f380dfc65ed8489bcb254ff8ab1bdcf73
      username: ci
    secrets:
      password: "{{ lookup('ansible.builtin.env', 'CI_REGISTRY_PASSWORD') }}"
"""

RETURN = r"""
build:
  description: The build, for the manifest of a release.
  returned: success
  type: dict
  contains:
    method:
      description: How it was built.
      type: str
    id:
      description: What is known of its content. Equal for equal input.
      type: str
    link:
      description: The path that will lead to it.
      type: str
    target:
      description: Where it is.
      type: str
  sample:
    method: venv
    id: 0f3a55d21c9e
    link: /opt/jaws/acme-prod/site
    target: /opt/jaws/acme-prod/builds/venv-0f3a55d21c9e
log:
  description: The log of the build on the host, of one that failed too.
  returned: when something was run
  type: str
  sample: /opt/jaws/acme-prod/builds/venv-0f3a55d21c9e.log
log_tail:
  description: The last lines of what the step that failed said.
  returned: failure of a step
  type: list
  elements: str
  sample: ["ERROR: No matching distribution found for jaws-site==2.8"]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sciops.sites.plugins.module_utils import _installs, _place


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "version": {"type": "str", "required": True},
            "method": {"type": "str", "required": True},
            "settings": {"type": "dict", "required": True},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "timeout": {"type": "float", "default": 1800},
        },
        supports_check_mode=True,
    )
    root, method = module.params["root"], module.params["method"]
    try:
        settings = _installs.fit(method, module.params["settings"], module.params["secrets"])
        build = _installs.identify(method, settings, module.params["version"], root)
        before = _installs.present(root)
        if module.check_mode:
            changed = not _installs.whole(build)
        else:
            changed = _installs.provide(build, settings, root, module.params["timeout"])
    except _installs.Failure as error:
        module.fail_json(msg=str(error), changed=False, **error.facts)
    except _place.Misplaced as error:
        module.fail_json(msg=str(error), changed=False)
    result = {"changed": changed, "build": build}
    if changed and not module.check_mode:
        result["log"] = _installs.log_of(build)
    after = set(before) | {_installs.name_of(build)}
    result["diff"] = {"before": _lines(before), "after": _lines(after if changed else before)}
    module.exit_json(**result)


def _lines(names) -> str:
    return "".join(name + "\n" for name in sorted(names))


if __name__ == "__main__":
    main()
