# SPDX-License-Identifier: Apache-2.0
"""The work of a pipeline on each image, recorded with its times."""
