"""See `mrs.demo.demonstration`."""

import sys

from mrs.demo.demonstration import main

sys.exit(main())
