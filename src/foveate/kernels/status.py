# SPDX-License-Identifier: Apache-2.0
"""The status codes of the launchers, in words."""

from __future__ import annotations

from foveate.errors import BackendError, OptionError

# Code -> what is wrong, and what to do. The codes are those of device/launch.cuh.
STATUSES = {
    -1: ("an array is null that would be read or written", "allocate it before the launch"),
    -2: ("a length is negative, or lengths do not fit each other", "check the shapes"),
    -3: ("an option has no meaning", "see the launcher's comment for the values it takes"),
    -4: ("an array or a grid is too large for one launch", "split the work"),
    -5: ("an address is not a multiple of its element's size", "allocate with the right dtype"),
}


def check_status(status: int, kernel: str) -> None:
    """Raise what a launcher's status means.

    Args:
        status: What the launcher returned: 0 for success, negative for bad arguments, positive for
            an error of CUDA.
        kernel: Name for the message.

    Raises:
        OptionError: The arguments were refused; nothing was launched.
        BackendError: CUDA refused the launch.
    """
    if status == 0:
        return
    if status in STATUSES:
        what, remedy = STATUSES[status]
        raise OptionError(f"{kernel}: {what} (status {status})", remedy=remedy)
    raise BackendError(
        f"{kernel}: CUDA refused the launch with error {status}",
        remedy="look the number up under cudaError_t; `foveate doctor` says what works here",
    )
