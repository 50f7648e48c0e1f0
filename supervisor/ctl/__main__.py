"""`python -m supervisor.ctl` is jqctl."""

import sys

from supervisor.ctl import main

sys.exit(main())
