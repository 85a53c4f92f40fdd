# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PREPARE_JOB: makes the folder of a job before it starts, or says why the job cannot run.

HTCondor holds a job whose hook says HookStatusCode 1 to 299, with HookStatusMessage in the reason, whatever the exit
status is; with 300 and more it takes the job back into the queue. It reads what the hook prints as attributes that
change in the job ad, so the ad printed unchanged and nothing printed are the same to it.
"""

import os
import sys

import _common as common

#: status of a refusal: below 300, so the job is held
HOLD = 190
NEEDED = ("HMDCNewSubmit", "HMDCInteractive", "LocalJobDir", "ClusterId", "ProcId", "Owner")


def wanted(ad):
    """Whether the job is one of ours."""
    return ad.get("HMDCNewSubmit") is True and ad.get("HMDCInteractive") is True


def refusal(reason):
    """What makes HTCondor hold the job with this reason."""
    # what a string of an ad does not hold as it is would become an expression there
    quoted = common.classad.quote(common.plain(reason).replace("\\", "/").replace("$$", "$ $"))
    return "HookStatusMessage = %s\nHookStatusCode = %d\n" % (quoted, HOLD)


def make_folder(ad, settings):
    """Make the job's folder. Raises Refused."""
    folder = common.text_of(ad, "LocalJobDir")
    if not folder:
        raise common.Refused("the job has no LocalJobDir that can be understood; it says which folder is made for it")
    root, names = common.split_below(settings["job_roots"], folder)
    try:
        os.close(common.make_below(root, names))
    except OSError as exc:
        raise common.Refused("the folder %s cannot be made: %s" % (folder, exc.strerror or exc))


def answer(text, settings):
    """What the hook prints for an ad."""
    ad = common.pick(text, NEEDED)
    if not wanted(ad):
        return ""
    try:
        common.bounded(lambda: make_folder(ad, settings), settings["time_limit"])
    except common.Refused as exc:
        return refusal(str(exc))
    if len(text) > settings["print_limit"]:
        common.say("the ad of %d characters is left as it is" % len(text))
        return ""
    return text


def main(settings_file=None):
    """Read the ad, print the answer; 0 whatever it is, since HTCondor goes by what is printed."""
    try:
        # all of it first: HTCondor stops to hand it over where a hook closes its output before
        data = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
        said = answer(data, common.load_settings(settings_file))
    except Exception as exc:  # a job must never start without its folder, nor be held without a reason
        said = refusal("the hook prepare of this machine does not work: %s: %s" % (type(exc).__name__, exc))
    sys.stdout.buffer.write(said.encode("utf-8", "surrogateescape"))
    sys.stdout.flush()
    return 0
