# SPDX-License-Identifier: Apache-2.0
"""What the operating system gives: files, private folders, cores and memory."""
