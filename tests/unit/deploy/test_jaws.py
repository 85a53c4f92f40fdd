# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The example inventory of JAWS: ten sites by three deployments, their variables, files, folders and clashes."""

from __future__ import annotations

import configparser
import re
import subprocess

import pytest
import yaml
from unit.deploy.jaws_inventory import ACME, ENVIRONMENT, ROOT, SECRETS, Inventory, copied

from ansible_collections.sciops.sites.plugins.module_utils import _supervisor
from ansible_collections.sciops.sites.plugins.plugin_utils import _collisions, _deploying, _variables

SITES = ["assembly", "aws", "birch", "cedar", "dori", "jgi", "maple", "nmdc", "perlmutter", "tahoma"]
DEPLOYMENTS = ["dev", "staging", "prod"]
TARGETS = [f"{site}-{deployment}" for site in SITES for deployment in DEPLOYMENTS]
ALWAYS = {"jaws-site.conf", "site.env", "supervisor.conf", "supervisord", "supervisorctl"} | {
    "rpc-server",
    "run-daemon",
    "transfer-daemon",
    "message-consumer",
}
KEYS = {
    "DB": "dialect host port user password db",
    "RMQ": "user password host port vhost ttl num_threads",
    "GLOBUS": "host_path endpoint_id",
    "SITE": "id deployment inputs_dir downloads_dir default_container max_ram_gb max_cpu max_time access_group "
    "max_user_active_runs file_sync_delay_sec file_permissions folder_permissions jaws_get_metadata_max_retrials "
    "jaws_get_metadata_wait_sec",
    "CROMWELL": "url executions_dir",
    "AWS": "aws_access_key_id aws_secret_access_key s3_bucket",
}
FIRST_KEYS = {
    **KEYS,
    "RMQ": "user password host port vhost num_threads",
    "SITE": "id deployment inputs_dir downloads_dir default_container max_ram_gb access_group max_user_active_runs "
    "file_sync_delay_sec",
    "PERFORMANCE_METRICS": "done_dir processed_dir running_dir error_dir cleanup_time",
}


@pytest.fixture(scope="module")
def jaws():
    return Inventory(ROOT / "inventories/jaws")


@pytest.fixture
def acme(tmp_path):
    return copied(tmp_path, acme=ACME)


def parsed(text):
    found = configparser.ConfigParser()
    found.read_string(text)
    return found


def keys_of(conf):
    return {name: set(conf[name]) for name in conf.sections()}


def words(keys):
    return {name: set(line.split()) for name, line in keys.items()}


# --- all of them


def test_there_are_ten_sites_by_three_deployments(jaws):
    assert [place.name for place in jaws.system.places] == TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_each_target_resolves_and_renders(jaws, name):
    target, files = jaws.target(name), jaws.files(name)
    site, _dash, deployment = name.rpartition("-")
    method = target["launch"]["method"]
    wanted = set(ALWAYS)
    if method == "systemd":
        wanted |= {f"{service['name']}-{deployment}.service" for service in target["services"]} - {
            f"gitlab-runner-{deployment}.service"
        }
    else:
        wanted.add("supervisor.site.conf")
    if method == "scrontab":
        wanted |= {"starter.sh", "jaws-site-cronjob"}
        if name == "perlmutter-prod":
            wanted |= {"gitlab-runner-starter.sh", "jaws-perlmutter-gitlab-runner"}
    assert {dest.rpartition("/")[2] for dest in files} == wanted
    conf = parsed(files[f"/opt/jaws/{name}/config/jaws-site.conf"]["content"])
    assert keys_of(conf) == words(KEYS)
    assert conf["SITE"]["id"] == site
    assert conf["SITE"]["deployment"] == deployment
    assert {dest for dest, one in files.items() if one["secret"]} == {
        f"/opt/jaws/{name}/config/{file}" for file in ("jaws-site.conf", "site.env", "supervisor.conf")
    }
    for dest, one in files.items():
        assert int(one["mode"], 8) == (
            0o600 if "/config/" in dest else 0o644 if dest.endswith(".service") else 0o700
        ) or (one["mode"] == "0750" and "/bin/" in dest)
    # what the launchers make of it: each service has its definition
    release = _deploying.manifest(target, None, list(files.values()))
    assert set(release["prints"]) == {service["name"] for service in target["services"]}


def test_w14_a_new_version_does_not_concern_the_runner(jaws):
    with_runner = [n for n in TARGETS if "gitlab-runner" in [one["name"] for one in jaws.target(n)["services"]]]
    assert with_runner
    for name in with_runner:
        target, files = jaws.target(name), list(jaws.files(name).values())
        build = {"method": "venv", "id": "a", "link": "/l", "target": "/a"}
        prints = [_deploying.manifest(target, {**build, "id": one}, files)["prints"] for one in "ab"]
        changed = {service for service in prints[0] if prints[0][service] != prints[1][service]}
        assert changed == set(prints[0]) - {"gitlab-runner"}


def test_no_target_clashes_with_another(jaws):
    targets = [jaws.target(name) for name in TARGETS]
    assert _collisions.clashes(targets) == []
    assert len({target["machine"] for target in targets}) == len(SITES) - 1, "two of them share a machine"


def test_a_new_site_is_one_file(tmp_path):
    example = re.search(r"```yaml\n(.*?)```", (ROOT / "inventories/jaws/README.md").read_text(), re.DOTALL).group(1)
    known = copied(tmp_path, acme=example)
    added = [place.name for place in known.system.places if place.site == "acme"]
    assert added == [f"acme-{one}" for one in DEPLOYMENTS]
    assert len(known.files("acme-prod")) == 10


def test_the_four_ways_in_use_are_there(jaws):
    ways = {
        tuple(jaws.target(f"{site}-dev")["values"][key] for key in ("LAUNCH_METHOD", "INSTALL_METHOD"))
        for site in SITES
    }
    assert ways == {
        ("supervisord", "apptainer-run"),
        ("supervisord", "venv"),
        ("systemd", "apptainer-run"),
        ("scrontab", "venv"),
    }


def test_what_is_unused_is_declared_as_unused(jaws):
    entries = jaws.system.document.data["files"]
    found = _variables.report(jaws.system, [jaws.target("jgi-prod")], jaws.templates.used(entries))
    unused = {row["name"] for row in found["unused"]}
    assert unused == {
        *("AUTH_PORT", "REST_PORT", "REF_DATA_DIR", "FAST_SCRATCH_DIR", "BIG_SCRATCH_DIR"),
        *("CONTAINER_TYPE", "CONTAINER_RUNTIME", "DOCS_URL", "PERFORMANCE_METRICS_SCRIPT"),
        *(f"QUEUE_WAIT_{size}" for size in ("SMALL", "MEDIUM", "LARGE", "XLARGE")),
    }
    assert {row["name"] for row in found["undefined"]} == {
        "DNS_SERVER",
        "DNS_ZONE",
        "TSIGPATH",
        "PERFORMANCE_METRICS_DIR",
    }
    said = {name: one["description"] for name, one in jaws.system.document.data["variables"].items() if name in unused}
    assert all(text.startswith("Unused") for text in said.values())
    assert set(said) == unused


# --- values and their origins


def test_every_value_has_an_origin(jaws):
    for name in TARGETS:
        target = jaws.target(name)
        assert set(target["origins"]) >= set(target["values"])
        for variable, origin in target["origins"].items():
            if origin["layer"] not in ("environment", "caller"):
                assert origin["line"] > 0, variable


def test_origins_of_one_target(jaws):
    target = jaws.target("perlmutter-prod")
    origins = {
        name: (one["layer"], one["file"].rpartition("/")[2], [low["layer"] for low in one["shadows"]])
        for name, one in target["origins"].items()
    }
    assert origins["RPC_SERVER_NUM_THREADS"] == ("deployment", "prod.yml", ["system"])
    assert origins["LOG_LEVEL"] == ("system", "jaws.system.yml", [])
    assert origins["MAX_CPU"] == ("site", "perlmutter.yml", [])
    assert origins["PERLMUTTER"] == ("site", "perlmutter.yml", ["system"])
    assert origins["SITE_VERSION"][0] == origins["DB_PW"][0] == "environment"
    assert target["values"]["SITE_DNS_NAME"] == "perlmutter-prod.services.perlmutter.example.org"
    assert target["values"]["SUPERVISOR_HOST"] == "*"
    assert target["values"]["IP_ADDRESS"] == "http://perlmutter-prod.services.perlmutter.example.org"


def test_layers_of_threads_and_of_the_environment(acme, tmp_path):
    threads = {name: acme.target(f"acme-{name}")["values"]["RPC_SERVER_NUM_THREADS"] for name in DEPLOYMENTS}
    assert threads == {"dev": 5, "staging": 5, "prod": 16}
    nine = copied(tmp_path, acme=ACME + "  RPC_SERVER_NUM_THREADS: 9\n")
    assert nine.target("acme-prod")["values"]["RPC_SERVER_NUM_THREADS"] == 9
    values = acme.resolve("acme-dev", environment={**ENVIRONMENT, "JAWS_LOG_LEVEL": "ERROR"})[0]["values"]
    assert (values["LOG_LEVEL"], values["SITE_VERSION"]) == ("DEBUG", "2.8")


def test_ports_of_a_block(acme):
    values = acme.target("acme-staging")["values"]
    ports = [values[f"{kind}_PORT"] for kind in ("SUPERVISOR", "AUTH", "REST", "CROMWELL")]
    assert ports == [64102, 3002, 5002, 50102]


def test_what_is_mandatory_is_told_all_at_once(tmp_path):
    without = copied(tmp_path, acme=re.sub(r".*(GROUP|GLOBUS|MAX_).*\n", "", ACME) + '  RMQ_HOST: ""\n')
    problems = without.resolve("acme-dev", environment={"JAWS_SITE_VERSION": "2.8", "JAWS_RMQ_PW": ""})[1]
    for name in (
        *("DB_PW", "RMQ_PW", "SUPERVISORD_PW", "GLOBUS_CLIENT_SECRET", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        *("GROUP", "USERS_GROUP", "ACCESS_GROUP", "GLOBUS_EP", "GLOBUS_HOST_PATH", "MAX_RAM_GB", "MAX_CPU", "MAX_TIME"),
        "RMQ_HOST",
    ):
        assert any(re.search(rf"(\b|JAWS_){name}\b", problem) for problem in problems), name


@pytest.mark.parametrize(("value", "right"), [("/data", "/data/"), ("/data/", "/data/"), ("/data//", "/data/")])
def test_the_globus_path_ends_in_one_slash(jaws, value, right):
    assert jaws.target("jgi-dev", {"GLOBUS_HOST_PATH": value})["values"]["GLOBUS_HOST_PATH"] == right


def test_an_empty_globus_path_and_an_image_without_digest_are_refused(jaws):
    assert "GLOBUS_HOST_PATH" in " ".join(jaws.resolve("jgi-dev", {"GLOBUS_HOST_PATH": ""})[1])
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "JAWS_IMAGE_DIGEST"}
    assert "IMAGE_DIGEST" in " ".join(jaws.resolve("aws-dev", environment=environment)[1])
    assert jaws.resolve("jgi-dev", environment=environment)[1] == []


def test_ports_that_three_sites_of_one_machine_claim_twice(tmp_path):
    def site(block, more=""):
        return re.sub("{}", "{machine: shared}", ACME, count=1) + f"  PORT_BLOCK: {block}\n" + more

    known = copied(
        tmp_path, alpha=site(0), beta=site(1), gamma=site(0, '  CROMWELL_PORT: "{{ 50104 + PORT_OFFSET }}"\n')
    )
    targets = [
        known.target(f"{name}-{deployment}") for name in ("alpha", "beta", "gamma") for deployment in DEPLOYMENTS
    ]
    found = [(clash.kind, *clash.owners, clash.one.variable) for clash in _collisions.clashes(targets)]
    assert sorted(found) == sorted(
        [("port", f"alpha-{one}", f"gamma-{one}", "SUPERVISOR_PORT") for one in DEPLOYMENTS]
        + [("port", f"beta-{one}", f"gamma-{one}", "CROMWELL_PORT") for one in DEPLOYMENTS]
    )


# --- files


def test_the_configuration_of_acme(acme):
    conf = parsed(acme.files("acme-dev")["/opt/jaws/acme-dev/config/jaws-site.conf"]["content"])
    assert conf["DB"]["db"] == "jaws_acme_dev"
    assert conf["DB"]["dialect"] == "mysql+mysqlconnector"
    assert conf["RMQ"]["vhost"] == "jaws_dev"
    assert conf["CROMWELL"]["url"] == "http://localhost:50101"
    assert conf["CROMWELL"]["executions_dir"] == "/scratch/jaws/acme-dev/cromwell-executions"
    assert conf["GLOBUS"]["host_path"] == "/globus/"
    assert conf["SITE"]["max_time"] == "24:00:00"
    assert conf["SITE"]["file_permissions"] == "666"


def test_the_first_generation(jaws):
    files = jaws.files("jgi-dev", {"GENERATION": "v2.0", "PERFORMANCE_METRICS_DIR": "/data/metrics"})
    conf = parsed(files["/opt/jaws/jgi-dev/config/jaws-site.conf"]["content"])
    assert keys_of(conf) == words(FIRST_KEYS)
    assert conf["PERFORMANCE_METRICS"]["running_dir"] == "/data/metrics/running"
    assert conf["SITE"]["max_user_active_runs"] == "10"
    names = {dest.rpartition("/")[2] for dest in files}
    assert {"perf-metrics-daemon", "task-log"} <= names
    assert "message-consumer" not in names
    programs = _supervisor.parse(files["/opt/jaws/jgi-dev/config/supervisor.site.conf"]["content"], "site")
    assert set(programs) == {
        f"program:{name}" for name in ("runs", "transfers", "perf-metrics", "rpc-server", "task-log")
    }
    services = jaws.target("jgi-dev", {"GENERATION": "v2.0", "PERFORMANCE_METRICS_DIR": "/data/metrics"})["services"]
    assert [(one["name"], one["unit"]) for one in services][-2:] == [
        ("perf-metrics-daemon", "perf-metrics"),
        ("task-log", "task-log"),
    ]


def test_secrets_reach_those_that_read_them(jaws, tmp_path):
    files = jaws.files("jgi-dev")
    conf = parsed(files["/opt/jaws/jgi-dev/config/jaws-site.conf"]["content"])
    assert conf["DB"]["password"] == ENVIRONMENT["JAWS_DB_PW"]
    assert conf["RMQ"]["password"] == ENVIRONMENT["JAWS_RMQ_PW"]
    assert conf["AWS"]["aws_secret_access_key"] == ENVIRONMENT["AWS_SECRET_ACCESS_KEY"]
    for file in ("site.env", "supervisor.conf"):
        (tmp_path / file).write_text(files[f"/opt/jaws/jgi-dev/config/{file}"]["content"])
    # as apptainer does it: the file is sourced, then each value is expanded once more, as in a here-document
    script = (
        f"set -a; . {tmp_path}/site.env; "
        'for name in ${!ENV_@}; do printf -v "$name" %s "$(eval "cat <<E_O_F\n${!name}\nE_O_F")"; done; env -0'
    )
    done = subprocess.run(["bash", "-c", script], env={"HOME": "/"}, capture_output=True, check=True, text=True)
    env = dict(pair.split("=", 1) for pair in done.stdout.split("\0") if pair)
    assert {name: value for name, value in env.items() if name.startswith("ENV_")} == {
        "ENV_OVERRIDE_PREFIX": "ENV__",
        "ENV__DB_host": "mysql.lbl.gov",
        "ENV__DB_password": ENVIRONMENT["JAWS_DB_PW"],
        "ENV__DB_port": "3306",
        "ENV__RMQ_password": ENVIRONMENT["JAWS_RMQ_PW"],
        "ENV__RMQ_host": "rmq.lbl.gov",
        "ENV__RMQ_port": "5672",
        "ENV__GLOBUS_client_secret": ENVIRONMENT["JAWS_GLOBUS_CLIENT_SECRET"],
    }
    found = _supervisor.read_config(str(tmp_path / "supervisor.conf"))
    assert (found["username"], found["password"]) == ("jaws", ENVIRONMENT["JAWS_SUPERVISORD_PW"])
    assert found["includes"] == ["/opt/jaws/jgi-dev/config/supervisor.*.conf"]


def test_secrets_are_in_secret_files_only(jaws):
    for name in TARGETS:
        target, files = jaws.target(name), jaws.files(name)
        told = "".join(one["content"] for one in files.values() if not one["secret"])
        told += yaml.safe_dump([target[section] for section in ("folders", "launch", "services", "checks")])
        assert not any(secret.lower() in told for secret in SECRETS)


def test_supervisord_listens_here_only(jaws):
    conf = _supervisor.parse(jaws.files("jgi-dev")["/opt/jaws/jgi-dev/config/supervisor.conf"]["content"], "conf")
    assert conf["inet_http_server"]["port"] == "127.0.0.1:64101"
    assert conf["supervisorctl"]["serverurl"] == "http://localhost:64101"
    assert dict(conf["supervisord"]) == {
        "logfile": "/opt/jaws/jgi-dev/log/supervisor.log",
        "logfile_maxbytes": "50MB",
        "logfile_backups": "2",
        "loglevel": "info",
        "pidfile": "/opt/jaws/jgi-dev/supervisor/jaws-pidfile",
        "nodaemon": "false",
        "minfds": "1024",
        "minprocs": "200",
        "identifier": "supervisor-jaws-dev",
        "directory": "/opt/jaws/jgi-dev/supervisor",
        "childlogdir": "/opt/jaws/jgi-dev/log",
    }
    floating = _supervisor.parse(
        jaws.files("maple-dev")["/opt/jaws/maple-dev/config/supervisor.conf"]["content"], "conf"
    )
    assert floating["inet_http_server"]["port"] == "*:64101"
    assert floating["supervisord"]["nodaemon"] == "true"
    assert floating["supervisorctl"]["serverurl"] == "http://maple-dev.services.maple.example.org:64101"


def test_each_program_is_a_group_of_its_own(jaws):
    programs = _supervisor.parse(
        jaws.files("jgi-dev")["/opt/jaws/jgi-dev/config/supervisor.site.conf"]["content"], "site"
    )
    shims = {"runs": "run-daemon", "transfers": "transfer-daemon", "rpc-server": "rpc-server"} | {
        "message-consumer": "message-consumer"
    }
    assert {name: dict(one) for name, one in programs.items()} == {
        f"program:{name}": {
            "command": f"/opt/jaws/jgi-dev/bin/{shim}",
            "numprocs": "1",
            "startsecs": "3",
            "startretries": "10",
            "stopasgroup": "true",
            "autorestart": "unexpected",
            "priority": "999",
        }
        for name, shim in shims.items()
    }


# --- folders, checks, services


def test_folders_with_and_without_a_group_of_users(jaws):
    def acls(name, caller=None):
        folders = jaws.target(name, caller)["folders"]
        return {
            one["path"].rpartition("/")[2]: (one["mode"], one["group"], one["acl"])
            for one in folders
            if "/scratch" in one["path"]
        }

    ours = "d:g:jaws:rwx"
    assert acls("jgi-dev") == {
        "jgi-dev": ("0775", "jaws", [ours, "d:g:jgi-users:rwx"]),
        "inputs": ("0775", "jaws", [ours, "d:g:jgi-users:rwx"]),
        "downloads": ("0775", "jaws", [ours, "d:g:jgi-users:rx"]),
        "cromwell-executions": ("0775", "jaws", [ours, "d:g:jgi-users:rx"]),
    }
    everybody = acls("nmdc-dev")
    assert everybody["inputs"][2] == everybody["nmdc-dev"][2] == [ours, "d:o::rwx", "o::rwx"]
    assert everybody["cromwell-executions"][2] == [ours, "d:o::rx"]
    assert all(acl == [] for _mode, _group, acl in acls("tahoma-dev").values())
    assert acls("dori-dev")["inputs"][0] == "2777"


def test_an_object_store_has_no_folders(jaws):
    target = jaws.target("aws-dev")
    assert target["values"]["CROMWELL_EXECUTIONS_DIR"] == "s3://jaws-scratch-dev/cromwell-executions"
    assert [one["path"] for one in target["folders"]] == [
        f"/opt/jaws/aws-dev{below}" for below in ("", "/config", "/bin", "/log", "/supervisor")
    ]


def test_checks_of_what_a_deploy_needs(jaws):
    checks = jaws.target("aws-prod")["checks"]
    asked = [one["url"] for one in checks if one.get("url")]
    assert asked == ["http://jaws.lbl.gov", "http://jaws.lbl.gov:3003", "http://jaws.lbl.gov:5003"]
    assert [(one["address"], one["port"]) for one in checks if one.get("port")] == [
        ("mysql.lbl.gov", 3306),
        ("rmq.lbl.gov", 5672),
    ]
    assert [one["program"] for one in checks if one.get("program")] == [
        "apptainer",
        "/opt/jaws/aws-prod/supervisor/bin/supervisord",
    ]


def test_the_runner_is_a_service_of_prod_where_there_is_one(jaws):
    runners = {
        name: one["launch"]["method"]
        for name in TARGETS
        for one in jaws.target(name)["services"]
        if one["name"] == "gitlab-runner"
    }
    assert runners == {"dori-prod": "process", "jgi-prod": "process", "perlmutter-prod": "scrontab"}


def test_stopping_the_job_stops_its_workers(jaws):
    settings = jaws.target("perlmutter-dev")["launch"]
    assert settings["name"] == "jaws_perlmutter_dev"
    assert settings["cancels"] == [
        f"jaws_perlmutter_dev_htcondor_worker_{size}" for size in ("small", "medium", "large", "xlarge")
    ]
    assert settings["stop"][0] == "/opt/jaws/perlmutter-dev/bin/supervisorctl"
    assert settings["stop"][1:] == ["stop", "rpc-server", "runs", "transfers", "message-consumer"]
