# SPDX-License-Identifier: Apache-2.0
"""Access to the operating system: atomic files, private directories, cores, shortages."""
