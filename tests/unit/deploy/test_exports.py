# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""W1: files of export lines give each site and deployment the values that sourcing them with bash gives."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.sciops.sites.plugins.plugin_utils import _exports, _exports_write, _source, _system, _variables

CALLER = {"HOME": "/home/jaws", "CFS": "/global/cfs"}
OTHERS = {name: f"/given/{name}" for name in ("JAWS_A", "JAWS_B", "B_2", "A_1", "T_1", "LATE")}
DEPLOYMENTS = ("dev", "staging", "prod")
PORTS = ("SUPERVISOR", "AUTH", "REST", "CROMWELL")

DEFAULT = """\
#!/usr/bin/env bash
# defaults of all deployments

export JAWS_LOG_LEVEL="INFO"
export JAWS_CENTRAL_HOST=http://jaws.lbl.gov
export JAWS_RMQ_HOST=rmq.lbl.gov
export JAWS_RMQ_PORT=5672
export JAWS_DB_HOST=mysql.lbl.gov
export JAWS_DB_PORT=3306
export JAWS_DEFAULT_CONTAINER=ubuntu@sha256:b5a61709a9a44284d88fb12e5c48db0409cfad5b69d4ff8224077c57302df9cf
export JAWS_LOAD_PYTHON=
export JAWS_PYTHON=python3
export JAWS_FAST_SCRATCH_DIR=""
export JAWS_RPC_SERVER_NUM_THREADS=5
export JAWS_SETFACL=1      # 1 where the file system can
export JAWS_SITE_DNS_NAME=
export JAWS_PYTHON_PATH=$HOME/bin/$JAWS_PYTHON
"""
LAYERS = {
    "dev": "export JAWS_LOG_LEVEL=DEBUG\n",
    "staging": "export JAWS_LOG_LEVEL=DEBUG\n",
    "prod": "export JAWS_RPC_SERVER_NUM_THREADS=16\n",
}
ACME = """\
export JAWS_INSTALL_BASEDIR=/opt/jaws
export JAWS_GLOBUS_EP="00000000-0000-4000-8000-000000000001"
export JAWS_GLOBUS_HOST_PATH=/data/
export JAWS_LOAD_PYTHON="module load python/3.11"
export JAWS_PYTHON='python3.11'
export JAWS_GROUP=jaws
export JAWS_USERS_GROUP=""
export JAWS_SCRATCH_BASEDIR="$CFS/jaws/${JAWS_GROUP}"
export JAWS_REF_DATA_DIR=$HOME/refdata
export JAWS_MAX_RAM_GB=250
export JAWS_MAX_CPU=32
export JAWS_RPC_SERVER_NUM_THREADS=9
export JAWS_GROUP=jaws-acme
export TSIGPATH=~/tsig.key
export JAWS_OF_LEVEL=$JAWS_LOG_LEVEL-$JAWS_RPC_SERVER_NUM_THREADS
"""
BLOCK = "".join(
    f"export JAWS_{kind}_PORT_{deployment.upper()}={base + number}\n"
    for kind, base in zip(PORTS, (64101, 3001, 5001, 50101), strict=True)
    for number, deployment in enumerate(DEPLOYMENTS)
)
STORE = ACME.replace('"$CFS/jaws/${JAWS_GROUP}"', "s3://bucket/jaws").replace(
    "NUM_THREADS=9", "SETFACL=0\nexport PERLMUTTER=1"
)


def imported(default: str, deployments: dict[str, str], sites: dict[str, str], **options):
    """Import the texts; fail where a line is not read."""
    sources = _exports.Sources(
        _exports.parse(default, "default.sh"),
        {name: _exports.parse(text, f"deployments/{name}.sh") for name, text in deployments.items()},
        {name: _exports.parse(text, f"sites/{name}.sh") for name, text in sites.items()},
    )
    assert [str(one) for file in sources.files() for one in file.problems] == []
    given = {"system": "jaws", "prefix": "JAWS_", "environment": [], "version": "SITE_VERSION", **options}
    return _exports_write.convert(_exports.layers(sources), **given)


def resolved(result, site: str, deployment: str, caller=(), environment=()):
    """The values of a target, as a deploy has them, from the texts of the files."""
    documents = {
        name: _source.parse(_exports_write.render(document), name, "site", None, "")
        for name, document in result.documents.items()
    }
    system = _system.build(
        documents["jaws.system.yml"],
        {name[7:-4]: one for name, one in documents.items() if name.startswith("layers/")},
        {name[6:-4]: one for name, one in documents.items() if name.startswith("sites/")},
    )
    assert [str(one) for one in system.problems] == []
    target, problems = _variables.resolve(
        system, site, deployment, f"{site}-{deployment}", dict(environment), {"SITE_VERSION": "1", **dict(caller)}
    )
    return target, [str(one) for one in problems]


def sourced(folder, default: str, deployment: str, site: str, environment) -> dict[str, str]:
    """What bash exports after the three files."""
    names = ("default", "deployment", "site")
    for name, text in zip(names, (default, deployment, site), strict=True):
        (folder / f"{name}.sh").write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-c", f"{' '.join(f'source $0/{one}.sh;' for one in names)} env -0", folder],
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", **environment}, capture_output=True, check=True,
    )  # fmt: skip
    assert done.stderr == b""
    pairs = (one.partition("=") for one in done.stdout.decode().split("\0") if one)
    return {name: value for name, _equals, value in pairs}


def _port(name, deployments):
    found = [one for one in deployments if name.endswith(f"_PORT_{one.upper()}")]
    return found[0] if found else ""


def compare(folder, default, deployments, sites):
    """Each target has, under our names, what bash exports for it; nothing more, nothing less."""
    result = imported(default, deployments, sites)
    for site, own in sites.items():
        for deployment, layer in deployments.items():
            environment = {**CALLER, **OTHERS}
            want = sourced(folder, default, layer, own, environment)
            names = dict.fromkeys(name for file in (default, layer, own) for name in _exports.parse(file, "x").names())
            short = {name: name.removeprefix("JAWS_") for name in names}
            ports = {name: _port(short[name], deployments) for name in names}
            wanted = {short[name]: want[name] for name in names if not ports[name]}
            wanted.update(
                {short[name][: -len(deployment) - 1]: want[name] for name in names if ports[name] == deployment}
            )
            caller = {}
            for name in result.needed:
                asked = name.removeprefix("CALLER_")
                caller[name] = environment.get(asked, environment.get(f"JAWS_{asked}", ""))
            target, problems = resolved(result, site, deployment, caller)
            assert [one for one in problems if ": root: " not in one] == []
            values = {name: str(value) for name, value in target["values"].items()}
            for name in {"SITE_VERSION", "INSTALL_DIR", *caller} - set(wanted):
                values.pop(name, None)
            assert values == wanted
    return result


def test_w01_each_site_and_deployment_has_what_bash_exports(tmp_path):
    """W1: two sites by three deployments: names that come twice, quotes, $HOME, $CFS, earlier names, ports."""
    result = compare(tmp_path, DEFAULT, LAYERS, {"acme": ACME + BLOCK, "bolt": STORE + BLOCK})
    assert result.needed == {
        "HOME": ["default.sh:17", "sites/acme.sh:9", "sites/acme.sh:14", "sites/bolt.sh:9", "sites/bolt.sh:15"],
        "CFS": ["sites/acme.sh:8"],
    }
    assert result.findings[0] == (
        "sites/acme.sh:13: JAWS_GROUP: is set again, after line 6; the last counts"
    )  # fmt: skip


def test_w01_the_documented_cases():
    """W1: acme/prod 9, without the site's line 16, dev 5; the environment loses, and counts where no file speaks."""
    named = {"environment": ["JAWS_SITE_VERSION", "JAWS_LOG_LEVEL", "AWS_ACCESS_KEY_ID"]}
    without = ACME.replace("export JAWS_RPC_SERVER_NUM_THREADS=9\n", "")
    result = imported(DEFAULT, LAYERS, {"acme": ACME + BLOCK, "less": without}, **named)
    outside = {"JAWS_LOG_LEVEL": "CRITICAL", "JAWS_HOME": "/h", "JAWS_CFS": "/cfs", "AWS_ACCESS_KEY_ID": "AKIA"}

    def threads(site, deployment):
        target, _problems = resolved(result, site, deployment, environment=outside)
        return target["values"]["RPC_SERVER_NUM_THREADS"], target["values"]["LOG_LEVEL"]

    assert threads("acme", "prod") == ("9", "INFO")
    assert (threads("less", "prod"), threads("less", "dev")) == (("16", "INFO"), ("5", "DEBUG"))
    target, _problems = resolved(result, "acme", "staging", environment=outside)
    assert target["values"]["AWS_ACCESS_KEY_ID"] == "AKIA" and target["secrets"] == ["AWS_ACCESS_KEY_ID"]
    # W3
    assert [target["values"][f"{kind}_PORT"] for kind in PORTS] == [64102, 3002, 5002, 50102]
    assert target["unique"]["port"] == {f"{kind}_PORT": target["values"][f"{kind}_PORT"] for kind in PORTS}
    assert target["root"] == "/opt/jaws/acme-staging"


def test_documents_have_the_form_of_the_contract():
    documents = imported(DEFAULT, LAYERS, {"acme": ACME + BLOCK}).documents
    assert list(documents) == [
        "jaws.system.yml", "layers/dev.yml", "layers/staging.yml", "layers/prod.yml", "sites/acme.yml",
    ]  # fmt: skip
    variables = documents["jaws.system.yml"]["variables"]
    assert variables["RMQ_PORT"] == {"type": "port", "default": 5672}
    assert variables["GLOBUS_EP"] == {"type": "uuid"}
    assert variables["GLOBUS_HOST_PATH"] == {"type": "folder"}
    assert variables["INSTALL_BASEDIR"] == {"type": "path"}
    assert variables["SCRATCH_BASEDIR"] == {"type": "path"}
    assert variables["TSIGPATH"] == {"type": "path", "environment": "TSIGPATH"}
    assert variables["PYTHON_PATH"]["default"] == "{{ HOME }}/bin/python3"
    assert variables["SUPERVISOR_PORT"] == {"type": "port"}
    assert documents["jaws.system.yml"]["unique"] == {
        "port": [f"{kind}_PORT" for kind in PORTS],
        "dns": ["SITE_DNS_NAME"],
    }
    assert documents["layers/prod.yml"] == {"RPC_SERVER_NUM_THREADS": "16"}
    site = documents["sites/acme.yml"]
    assert site["vars"]["SCRATCH_BASEDIR"] == "{{ CFS }}/jaws/jaws"
    assert not [name for name in site["vars"] if "PORT" in name]
    assert site["deployments"]["dev"] == {
        "OF_LEVEL": "DEBUG-9", "SUPERVISOR_PORT": 64101, "AUTH_PORT": 3001, "REST_PORT": 5001, "CROMWELL_PORT": 50101,
    }  # fmt: skip


def test_a_value_is_bound_where_the_shell_reads_it(tmp_path):
    """`A=$B` keeps the B of its line; a name that is set only later is the one of the caller."""
    default = "export B=low\nexport A=$B/x\nexport EARLY=$LATE\nexport HOME=$HOME/deep\nexport C=~/x:~\n"
    sites = {"acme": "export B=high\nexport D=$A$B\nexport LATE=now\nexport E=$LATE\n"}
    result = compare(tmp_path, default, {"dev": "export B=mid\nexport F=$B\n", "prod": ""}, sites)
    assert list(result.needed) == ["CALLER_LATE", "CALLER_HOME"]
    assert result.documents["sites/acme.yml"]["vars"]["D"] == "low/xhigh"


def test_ports_of_a_deployment_count_over_a_plain_port(tmp_path):
    default = "export JAWS_X_PORT=1\nexport JAWS_X_PORT_DEV=2\nexport JAWS_Y_PORT_PROD=\n"
    layers = {"dev": "export JAWS_Y_PORT_DEV=5\n", "prod": "export JAWS_X_PORT=3\n", "dark": ""}
    compare(tmp_path, default, layers, {"acme": "export JAWS_X_PORT=4\n", "bolt": "export JAWS_X_PORT_DEV=6\n"})


def test_secrets_of_files_are_never_taken_over():
    default = "export JAWS_DB_PW=hush-hush\nexport JAWS_URL=db://me:$JAWS_DB_PW@host\nexport JAWS_RMQ_PW=\n"
    result = imported(default, {"dev": "export CI_REGISTRY_PASSWORD='hush-hush'\n"}, {"acme": "export A=$JAWS_DB_PW\n"})
    assert "hush" not in repr(result)
    assert result.findings[:2] == [
        f"{place}: is a secret; its value was not taken over, give it by the environment or Ansible Vault"
        for place in ("default.sh:1: JAWS_DB_PW", "deployments/dev.sh:1: CI_REGISTRY_PASSWORD")
    ]
    variables = result.documents["jaws.system.yml"]["variables"]
    assert variables["DB_PW"] == variables["RMQ_PW"] == {"secret": True}
    assert variables["CI_REGISTRY_PASSWORD"] == {"secret": True, "environment": "CI_REGISTRY_PASSWORD"}
    target, _problems = resolved(result, "acme", "dev", environment={"JAWS_DB_PW": "a%b$HOME"})
    assert (target["values"]["URL"], target["values"]["A"]) == ("db://me:a%b$HOME@host", "a%b$HOME")
    assert {"A", "DB_PW", "URL"} <= set(target["secrets"])


def test_names_without_prefix_clash_with_nothing():
    result = imported("export JAWS_A=1\nexport A=2\nexport JAWS_site=x\nexport JAWS_1=y\n", {"dev": ""}, {"acme": ""})
    assert {"JAWS_A", "A", "JAWS_site", "JAWS_1"} <= set(result.documents["jaws.system.yml"]["variables"])
    assert resolved(result, "acme", "dev")[0]["values"]["JAWS_A"] == "1"
    with pytest.raises(ValueError, match=r"^site: is a word of templates and cannot be a variable; rename it"):
        imported("export site=x\n", {"dev": ""}, {})
    with pytest.raises(ValueError, match=r"^A: asked for in default.sh:1: another variable is called CALLER_A"):
        imported("export B=$A\nexport A=1\nexport CALLER_A=1\n", {"dev": ""}, {})


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("if [ -d /x ]; then", "if: only lines of the form export NAME=value are read"),
        ("  eval X=$Y", "eval: only lines of the form"),
        ("source other.sh", "source: only lines of the form"),
        ("DB_PW=hush", "DB_PW: only lines of the form"),
        ("export A", "exports without a value; only lines of the form"),
        ("export -n A=hush", "only lines of the form"),
        ('export "A=hush"', "only lines of the form"),
        ("export A+=hush", "only lines of the form"),
        ("export A=1 B=hush", "A: has a second word"),
        ("export A=module load hush", "A: has a second word, which the shell would not take into the value; quote"),
        ("export A=$(hush)", "A: $( runs a command; write the value"),
        ('export A="`hush`"', "A: ` runs a command"),
        ("export A=`hush`", "A: ` runs a command"),
        ("export A=hush;", "A: ; without quotes is not part of a value; quote it"),
        ("export A=(hush)", "A: ( without quotes"),
        ("export A=${B:-hush}", "A: of ${..} only ${NAME} is read; write the value"),
        ("export A=$[1]", "A: $[ is not read"),
        ("export A=$1", "A: $1 is not read"),
        ("export A=$'hush'", "A: $'..' and $\"..\" are not read; use plain quotes"),
        ('export A="hush', "A: a double quote is not closed in this line"),
        ("export A='hush", "A: a single quote is not closed in this line"),
        ("export A=hush\\", "A: goes on in the next line; write it as one line"),
        ("export A={hush,b}", "A: braces that the shell would expand are not read; quote them"),
        ("export A=~hush", "A: ~ with a name is not read"),
        ("export A=hush\r", "A: holds a carriage return (a Windows line end?)"),
        ("\r", "ends in a Windows line end"),
        ("export UID=5", "UID: is a variable of the shell itself and cannot be set"),
        ("export A=$RANDOM", "A: $RANDOM is a variable of the shell itself; write the value"),
    ],
)
def test_other_lines_are_faults_with_their_place(line, words):
    """What is no export line is a fault with file and line, and no value is in its words."""
    file = _exports.parse(f"export X=1\n\n{line}\nexport Z=2\n", "sites/acme.sh")
    assert str(file.problems[0]).startswith(f"sites/acme.sh:3: {words}")
    assert "hush" not in str(file.problems)
    assert file.names() == ["X", "Z"]


# --- any file of that form

CHARACTERS = st.sampled_from(
    list("ab1 /.:~{}%#$\\\"'!*?[]=,-_@é") + ["{{", "}}", "{%", "..", "$HOME", "${CFS}", "$A_1"]
)
NAMES = st.sampled_from(
    [
        "JAWS_A",
        "JAWS_B",
        "B_2",
        "JAWS_A_PORT",
        "JAWS_A_PORT_DEV",
        "JAWS_A_PORT_PROD",
        "JAWS_X_DIR",
        "HOME",
        "CFS",
        "T_1",
    ]
)


def single(text: str) -> str:
    return "'" + text.replace("'", "").replace("$", "$") + "'"


LINE = st.builds(
    lambda name, value, space, end: f"{space}export{space or ' '}{name}={value}{end}\n",
    NAMES,
    st.one_of(
        st.lists(CHARACTERS, max_size=8).map("".join),
        st.lists(CHARACTERS, max_size=8).map(lambda parts: '"' + "".join(parts).replace('"', '\\"') + '"'),
        st.lists(CHARACTERS, max_size=8).map(lambda parts: single("".join(parts))),
        st.lists(
            st.sampled_from(["$JAWS_A", '"${JAWS_B} x"', "$B_2", "~/x", ":~", "'$A'", "/y", "\\$A", "$T_1"]), max_size=4
        ).map("".join),
        st.sampled_from(["80", "64101", "065", "/a/b", "/a//b", "/a/../b", "$HOME/x", "s3://b/x", "/a/", "/", "0"]),
    ),
    st.sampled_from(["", " ", "\t"]),
    st.sampled_from(["", " ", " # comment $(x)", "\t#"]),
)
FILE = st.lists(st.one_of(LINE, LINE, LINE, st.sampled_from(["\n", "# x\n", "  # y 'z\n"])), max_size=7)


@given(default=FILE, dev=FILE, prod=FILE, site=FILE)
def test_w01_any_readable_file_gives_what_bash_gives(tmp_path_factory, default, dev, prod, site):
    """W1: lines that are refused are left out; the rest is compared with bash for both deployments."""
    folder = tmp_path_factory.mktemp("bash", numbered=True)

    def good(lines):
        return "".join(line for line in lines if not _exports.parse(line, "x").problems)

    compare(folder, good(default), {"dev": good(dev), "prod": good(prod)}, {"acme": good(site)})


def test_an_edited_file_is_known():
    text = _exports_write.render({"A": "b"})
    assert not _exports_write.edited(text)
    assert _exports_write.edited(text.replace("b\n", "c\n"))
    assert _exports_write.edited("A: b\n") and _exports_write.edited("")
