// SPDX-License-Identifier: Apache-2.0
// Error messages of the plugins, which go to TensorRT's logger.
#pragma once

#include <NvInferRuntime.h>

#include <string>

namespace foveate {

constexpr char kNamespace[] = "foveate";
constexpr char kVersion[] = "1";  // of the fields and their meaning; nodes of a model name it

// Log `OP: expected EXPECTED, found FOUND` as an error, on stderr if TensorRT has set no logger.
void report(const char* op, const std::string& expected, const std::string& found) noexcept;

// Return a launcher's status; log its meaning if it is not kOk.
int report_status(const char* op, int status) noexcept;

// Text such as `float32 (1, 512, -1, -1) in format 8`; a length of -1 is unknown.
std::string to_text(const nvinfer1::PluginTensorDesc& tensor);

// Text such as `2 input(s) of rank 4 2`.
std::string ranks_text(const nvinfer1::DimsExprs* inputs, int count);

// Return whether every length fits in 25 bits, so that the launchers' 32-bit arithmetic cannot
// overflow; log the tensor if one does not.
bool are_small(const char* op, const nvinfer1::PluginTensorDesc& tensor);

}  // namespace foveate
