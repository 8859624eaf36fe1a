"""What callers may give as the id of a request."""

from __future__ import annotations

import re

VALID_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
