# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Launchers, their options, containers and updates: what is declared, what is hashed, what a host is asked."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.plugin_utils import _launcher, _render, _source

from .conftest import SMALL

DIGEST = "sha256:" + "0" * 63 + "a"
#: The hash of conftest.SMALL's component before there was any launcher but process.
OLD_HASH = "1864e4eb7694"


# -- what is written becomes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "key", "value"),
    [
        (["launcher: systemd"], "launcher", {"default": "systemd"}),
        (["launcher: {default: process, big: systemd}"], "launcher", {"default": "process", "big": "systemd"}),
        (["update: {max_unavailable: 3}"], "update", {"max_unavailable": 3, "revert": True}),
        (["options: {systemd: {restart: always}}"], "options", {}),
        (["launcher: supervisord"], "options",
         {"supervisord": {"autorestart": "unexpected", "startretries": 3, "startsecs": 1, "priority": None}}),
        (["launcher: {default: process, big: systemd}", "options: {systemd: {restart: no, restart_sec: 500ms, drop_in: "
          "{Service: {LimitNOFILE: 4096}}}, slurm: {cpus: 9}}"], "options",
         {"systemd": {"restart": "no", "restart_sec": 0.5, "start_limit_burst": 5, "start_limit_interval": 60,
                      "enable": True, "drop_in": {"Service": {"LimitNOFILE": "4096"}}}}),
        (["launcher: slurm", "options: {slurm: {time: 2d, handover: 10m, memory: 2GiB, arguments: ['--nice=5']}}"],
         "options",
         {"slurm": {"partition": None, "account": None, "qos": None, "constraint": None, "reservation": None, "cpus": 1,
                    "memory": 2**31, "time": 172800, "handover": 600, "reservation_words": [], "cancels": [],
                    "reservation_margin": 7200, "arguments": ["--nice=5"]}}),
        (["launcher: htcondor", "options: {htcondor: {time: 2d, handover: 10m, memory: 2GiB, disk: 1KiB, lease: 20m, "
          "hold_limit: 1h, submit: {+MaxRuntime: 7, concurrency_limits: 'tape:1'}}}"],
         "options",
         {"htcondor": {"requirements": None, "rank": None, "accounting_group": None, "filesystem_domain": None,
                       "cpus": 1, "gpus": 0, "memory": 2**31, "disk": 1024, "time": 172800, "handover": 600,
                       "margin": 30, "requeue": True, "hold_limit": 3600, "lease": 1200,
                       "submit": {"+MaxRuntime": 7, "concurrency_limits": "tape:1"}}}),
        (["launcher: apptainer", "container: {image: /sif/a.sif}"], "container",
         {"image": "/sif/a.sif", "source": None, "digest": None, "keep": 3, "binds": [], "options": [],
          "method": None}),
    ],
)  # fmt: skip
def test_what_is_written_becomes(component, lines, key, value):
    found, problems = component(*lines)
    assert problems == []
    assert found[key] == value


def test_settings_of_managers_have_their_defaults(compiled):
    declaration, problems = compiled(SMALL + "launchers: {supervisord: {config: /etc/s.conf, timeout: 500ms}}\n")
    assert problems == []
    assert declaration["launchers"] == {
        "supervisord": {
            "config": "/etc/s.conf", "program": "supervisord", "include": None, "start": True, "timeout": 0.5,
        },
        "systemd": {"scope": "auto", "linger": False, "timeout": 10},
        "apptainer": {"program": "apptainer"},
        "slurm": {"timeout": 10},
        "htcondor": {"schedd": None, "pool": None, "config": None, "timeout": 10},
    }  # fmt: skip


def test_layers_may_hold_a_part_and_the_whole_is_checked(compiled):
    text = SMALL + "        container: {image: /sif/a.sif}\n"
    part = "defaults: {launcher: apptainer, container: {binds: ['/big:/big'], method: exec}, update: {revert: false}}\n"
    declaration, problems = compiled(text, all=part)
    assert problems == []
    component = declaration["components"]["p/a"]
    assert component["container"] | {"keep": 0} == {
        "image": "/sif/a.sif", "source": None, "digest": None, "keep": 0, "binds": ["/big:/big"], "options": [],
        "method": "exec",
    }  # fmt: skip
    assert component["update"] == {"max_unavailable": 1, "revert": False}


SIF = "container: {image: /a.sif"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["launcher: sytemd"], 'launcher: "sytemd": must be process or supervisord or systemd or apptainer or slurm '
         'or htcondor, did you mean "systemd"?'),
        (["launcher: {default: sytemd}"], 'launcher.default: "sytemd": must be process or supervisord or systemd or '
         'apptainer or slurm or htcondor, did you mean "systemd"?'),
        (["launcher: {big: systemd}"], "launcher.default: is missing; the launcher of hosts of which no class"),
        (["launcher: {default: process, bgi: systemd}"],
         'launcher.bgi: no host has this class, did you mean "big"?'),
        (["launcher: 3"], "launcher: 3: must be text or a mapping"),
        (["launcher: apptainer"], "container: is missing; launcher apptainer needs {image: path of a SIF}"),
        ([SIF + "}"], "container: cannot be used with launcher process; use apptainer, systemd, supervisord, slurm or "
         "htcondor, or no container"),
        (["launcher: {default: systemd, big: process}", SIF + "}"], "container: cannot be used with launcher process"),
        (["launcher: slurm", "container: {binds: []}"], "container.image: is missing; the path of a SIF on the host"),
        (["launcher: slurm", SIF + ", digest: 'sha256:12'}"],
         'container.digest: "sha256:12": must be sha256: and 64 hex digits (0-9, a-f)'),
        (["launcher: {default: systemd, big: slurm}", SIF + ", method: instance}"],
         'container.method: "instance": leaves its launcher; use run or exec except under apptainer and systemd'),
        (["launcher: slurm", SIF + ", method: shell}"], 'container.method: "shell": must be run, exec or instance'),
        (["launcher: slurm", SIF + ", binds: ['{{ vars.spool }}']}"],
         'container.binds: "{{ vars.spool }}": is the same for all instances, no template'),
        (["launcher: slurm", SIF + ', options: ["a\\nb"]}'],
         'container.options[0]: "a\\nb": must be text on one line, without a NUL character'),
        (["launcher: slurm", SIF + ', source: "a\\0b"}'], "container.source: "),
        (["options: {slurm: {handover: 10m}}", "launcher: slurm"],
         "options.slurm.handover: 600: needs a walltime to count back from; say options.slurm.time"),
        (["options: {slurm: {handover: 2h, time: 1h}}", "launcher: slurm"],
         "options.slurm.handover: 7200: must be less than the walltime (time), which is 3600"),
        (["options: {slurm: {reservation_words: [login]}}", "launcher: {default: process, big: slurm}"],
         'options.slurm.reservation_words: ["login"]: need a walltime that may be cut before a reservation; '
         "say options.slurm.time"),
        (["options: {htcondor: {handover: 10m}}", "launcher: htcondor"],
         "options.htcondor.handover: 600: needs a walltime to count back from; say options.htcondor.time"),
        (["options: {htcondor: {lease: 5}}"], "options.htcondor.lease: 5: must be from 20 to 2592000 seconds"),
        (['options: {htcondor: {requirements: "a\\nb"}}'], 'options.htcondor.requirements: "a\\nb": must be text on'),
        (["options: {htcondor: {submit: {'a b': 1}}}"], "options.htcondor.submit.a b: must be one command of a submit"),
        (["options: {htcondor: {submit: {a: \"x\\ny\"}}}"], 'options.htcondor.submit.a: "x\\ny": must be text on one'),
        (['options: {slurm: {partition: "a\\nb"}}'],
         'options.slurm.partition: "a\\nb": must be text on one line, without a NUL character'),
        (['options: {slurm: {arguments: ["a\\n"]}}'], 'options.slurm.arguments[0]: "a\\n": must be text on one line'),
        (["options: {slurm: {time: 10}}"], "options.slurm.time: 10: must be from 60 to 31622400 seconds"),
        (["options: {systemd: {drop_in: {Service: {ExecStart: \"a\\nb\"}}}}"],
         'options.systemd.drop_in.Service.ExecStart: "a\\nb": must be text on one line'),
        (["options: {systemd: {drop_in: {Service: {\"a\\nb\": 1}}}}"], "options.systemd.drop_in.Service.a\nb: must be"),
        (["options: {systemd: {drop_in: {\"x]\\n[y\": {}}}}"], "options.systemd.drop_in.x]\n[y: must be the name of a"),
        (["options: {systemd: {restart: true}}"], "options.systemd.restart: true: must be always, on-failure or no"),
        (["options: {sytemd: {}}"], 'options.sytemd: unknown key, did you mean "systemd"?'),
        (["options: {systemd: {restrat: no}}"], 'options.systemd.restrat: unknown key, did you mean "restart"?'),
        (["options: {supervisord: {autorestart: true}}"],
         "options.supervisord.autorestart: true: must be unexpected or always or never"),
        (["update: {max_unavailable: 0}"], "update.max_unavailable: 0: must be 1 or more"),
        (["update: {max_unavailble: 1}"], 'update.max_unavailble: unknown key, did you mean "max_unavailable"?'),
        (["launcher: systemd", 'cwd: "/a\\nb"'], 'cwd: "/a\\nb": must be text on one line, without a NUL character'),
        (["launcher: systemd", 'log: {path: "/a\\nb"}'], 'log.path: "/a\\nb": must be text on one line'),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_with_its_place(component, lines, message):
    found, problems = component(*lines)
    assert found is None
    assert [problem for problem in problems if f" pipes.p.components.a.{message}" in problem], problems


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("launchers: {supervisrod: {}}", 'launchers.supervisrod: unknown key, did you mean "supervisord"?'),
        ("launchers: {process: {}}", "launchers.process: unknown key, known here: apptainer, htcondor, slurm"),
        ('launchers: {supervisord: {program: "a\\nb"}}', "launchers.supervisord.program: "),
        ("launchers: {systemd: {scope: all}}", 'launchers.systemd.scope: "all": must be auto or system or user'),
        ("launchers: {slurm: {timeout: 0}}", "launchers.slurm.timeout: 0: must be from 0.1 to 600 seconds"),
    ],
)
def test_faults_in_the_settings_of_managers_refuse_the_site(compiled, line, message):
    declaration, problems = compiled(SMALL + line + "\n")
    assert declaration is None
    assert f"lab.site.yml:13: {message}" in str(problems[0])


# -- the hash ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["launcher: systemd"],
        ["launcher: slurm", "options: {slurm: {cpus: 1}}"],
        ["options: {systemd: {restart: always}}"],
        ["update: {max_unavailable: 5, revert: false}"],
        ["count: 4"],
    ],
)
def test_a_component_that_uses_nothing_new_keeps_the_hash_it_had(component, lines):
    """An upgrade of the collection restarts nothing; nor does another launcher change the configuration."""
    assert component(*lines)[0]["hash"] == OLD_HASH


def test_the_hash_of_before_with_templates_variables_and_secrets(compiled):
    """The value is that of the release before launchers, for a component that uses all that was hashed then."""
    declaration, _problems = compiled("""\
        plugin: sciops.sites.site
        site: lab
        deployment: test
        hosts: {n-1.lab.example: {vars: {spool: /big}}}
        vars: {spool: "/a b", nodes: 4}
        pipes:
          p:
            components:
              a:
                command: /bin/a --slot {{ slot }} --spool={{ vars.spool }} '{{ host }} x' {{ node }}
                environment: {WHO: "{{ instance }}"}
                secrets: {T: {file: /etc/token}, U: {controller_env: U}}
                cwd: "{{ site_dir }}"
                user: jadelta
                log: {path: "/log/{{ component }}.run.{{ short_host }}.{{ epoch }}.log"}
                draw: {node: {of: [5, 6, 7, 8]}}
        """)
    assert declaration["components"]["p/a"]["hash"] == "5f8905891967"
    assert declaration["components"]["p/a"]["vars"] == {"spool": "/a b"}


BASE = ["launcher: apptainer", "container: {image: /a.sif, digest: '" + DIGEST + "'}"]


@pytest.mark.parametrize(
    ("lines", "differs"),
    [
        (["launcher: systemd", "options: {systemd: {restart: always}}"], True),
        (["launcher: systemd", "options: {systemd: {restart: on-failure}}"], False),
        (["launcher: slurm", "options: {slurm: {partition: long}}"], True),
        (["launcher: slurm", SIF + "}"], True),
        (["launcher: htcondor", "options: {htcondor: {rank: Mips}}"], True),
    ],
)
def test_options_and_containers_change_the_hash(component, lines, differs):
    assert (component(*lines)[0]["hash"] != OLD_HASH) is differs


@pytest.mark.parametrize(
    ("more", "differs"),
    [("keep: 9", False), ("source: 'docker://x'", False), ("binds: [/x]", True), ("method: run", True)],
)
def test_what_matters_of_a_container(component, more, differs):
    line = "container: {image: /a.sif, digest: '" + DIGEST + "', " + more + "}"
    assert (component("launcher: apptainer", line)[0]["hash"] != component(*BASE)[0]["hash"]) is differs


def test_without_a_digest_the_source_is_what_tells_images_apart(component):
    one, two = (component("launcher: slurm", f"{SIF}, source: 'docker://{name}'}}")[0]["hash"] for name in "ab")
    assert one != two


# -- which launcher, and what the host is asked -----------------------------------------------------------------------

CLASSES = ["vm", "big", "default", "old"]


@given(
    st.dictionaries(st.sampled_from(CLASSES), st.sampled_from(_launcher.LAUNCHERS)).map(
        lambda found: {"default": "process", **found}
    ),
    st.lists(st.sampled_from(CLASSES), unique=True),
)
def test_the_first_class_of_the_host_that_is_named_wins(launcher, classes):
    named = [one for one in classes if one in launcher and one != "default"]
    wanted = launcher[named[0]] if named else launcher["default"]
    assert _launcher.launcher_for({"launcher": launcher}, {"classes": classes}) == wanted


@pytest.mark.parametrize("component", [{}, {"launcher": "process"}, {"launcher": {"default": "process"}}])
def test_process_is_the_launcher_of_who_says_nothing(component):
    assert _launcher.launcher_for(component, None) == "process"
    assert _launcher.normal(component.get("launcher")) == {"default": "process"}


def ask(compiled, *lines, host="lab-1"):
    declaration, problems = compiled(SMALL + "".join(f"        {line}\n" for line in lines))
    assert problems == []
    return _render.start_request(declaration, "p/a", host, 1, "1-0", 0, 0, {})


def test_a_request_for_a_plain_process_has_nothing_new_in_it(compiled):
    new = {"launcher", "manager", "options", "container", "singleton"}
    assert not new & set(ask(compiled))
    assert not new & set(ask(compiled, "launcher: {default: systemd, big: process}"))


def test_a_request_has_the_launcher_of_its_host_with_settings_and_options(compiled):
    lines = ["launcher: {default: process, big: supervisord}", "singleton: true"]
    found = ask(compiled, *lines)
    assert (found["launcher"], found["singleton"]) == ("supervisord", True)
    assert found["manager"]["timeout"] == 5
    assert found["options"]["startsecs"] == 1
    assert "container" not in found


@pytest.mark.parametrize(
    ("launcher", "method", "wanted"),
    [("apptainer", "", "instance"), ("apptainer", "exec", "exec"), ("slurm", "", "run"), ("systemd", "exec", "exec")],
)
def test_the_method_of_a_container_is_decided_by_the_launcher(compiled, launcher, method, wanted):
    line = SIF + (f", method: {method}" if method else "") + "}"
    assert ask(compiled, f"launcher: {launcher}", line)["container"]["method"] == wanted


def test_no_line_of_a_variable_gets_into_a_file_of_a_manager(compiled):
    text = SMALL.replace("/spool}", '"/a\\nExecStart=/bin/b"}').replace("/bin/a {{ slot }}", "/bin/a")
    lines = "        cwd: '{{ vars.spool }}'\n        launcher: {default: systemd, odd: process}\n"
    declaration, problems = compiled(text.replace("big]}", "big]}\n  odd: {classes: [odd]}") + lines)
    assert problems == []
    with pytest.raises(_render.RenderError, match=r"cwd: .* gives more than one line \(slot 1, lab-1\)"):
        _render.start_request(declaration, "p/a", "lab-1", 1, "1-0", 0, 0, {})
    assert "\n" in _render.start_request(declaration, "p/a", "odd", 1, "1-0", 0, 0, {})["cwd"]


def test_the_variables_of_an_earlier_version_go_with_it(compiled):
    declaration, _problems = compiled(SMALL + "        cwd: '{{ vars.spool }}'\n")
    assert declaration["components"]["p/a"]["vars"] == {"spool": "/spool"}
    declaration["components"]["p/a"]["vars"] = {"spool": "/before"}
    assert _render.start_request(declaration, "p/a", "lab-1", 1, "1-0", 0, 0, {})["cwd"] == "/before"
    declaration["hosts"]["lab-1"]["vars"] = {"spool": "/here"}
    assert _render.start_request(declaration, "p/a", "lab-1", 1, "1-0", 0, 0, {})["cwd"] == "/here"


@pytest.mark.parametrize("kind", ["stop", "rotate", "renew"])
def test_other_requests_carry_the_launcher_unless_it_is_process(kind):
    action = {"kind": kind, "component": "p/a", "slot": 1, "token": "1-0", "log": "/l"}
    assert "launcher" not in _render.other_request(action, {})
    assert "launcher" not in _render.other_request({**action, "launcher": "process"}, {})
    found = _render.other_request({**action, "launcher": "slurm"}, {})
    assert found["launcher"] == "slurm"
    assert ("grace" in found) is (kind == "stop")


# -- what may be copied -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "secret", "wanted"),
    [
        (SMALL, None, False),
        (SMALL + "        environment: {A: x}\n", ("pipes", "p", "components", "a", "environment", "A"), True),
        (SMALL, ("vars", "spool"), False),
        (SMALL + "        cwd: '{{ vars.spool }}'\n", ("vars", "spool"), True),
    ],
)
def test_components_with_encrypted_values_are_marked(text, secret, wanted):
    from ansible_collections.sciops.sites.plugins.plugin_utils import _declaration, _sitefile

    document = _source.parse(text, "/sites/test/lab.site.yml", "site")
    if secret:
        document = _declaration.Document(
            document.layer, document.file, document.data, document.lines, (), frozenset({secret})
        )
    declaration, problems = _declaration.compile_site([document], _sitefile.expand)
    assert problems == []
    assert declaration["components"]["p/a"]["vaulted"] is wanted
    assert json.loads(json.dumps(declaration)) == declaration
