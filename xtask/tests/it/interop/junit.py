# SPDX-License-Identifier: MIT OR Apache-2.0
"""What junitparser reads in a JUnit file: each case, the file's own counts, and those that the reader comes to."""

import json
import sys

from junitparser import Error, Failure, JUnitXml, Skipped

KINDS = {Failure: "failure", Error: "error", Skipped: "skipped"}


def kind(case):
    """What became of a case. Two results in one are none that this project writes."""
    found = [KINDS[type(result)] for result in case.result if type(result) in KINDS]
    assert len(found) <= 1, found
    return found[0] if found else "success"


def counts(xml):
    return [xml.tests, xml.failures, xml.errors, xml.skipped]


xml = JUnitXml.fromfile(sys.argv[1])
cases = [[case.classname, case.name, kind(case)] for suite in xml for case in suite]
# Skips are counted in suites only.
declared = [counts(xml)[:3]] + [counts(suite) for suite in xml]
xml.update_statistics()
counted = [counts(xml)[:3]] + [counts(suite) for suite in xml]
print(json.dumps({"cases": cases, "declared": declared, "counted": counted}))
