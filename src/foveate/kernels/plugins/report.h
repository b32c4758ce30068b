// SPDX-License-Identifier: Apache-2.0
// Saying what is wrong, through TensorRT's logger.
#pragma once

#include <NvInferRuntime.h>

#include <string>

namespace foveate {

constexpr char kNamespace[] = "foveate";
constexpr char kVersion[] = "1";  // of the meaning of the fields; bundles ask for it

// Log `OP: expected EXPECTED, found FOUND` as an error; without TensorRT's logger, on stderr.
void report(const char* op, const std::string& expected, const std::string& found) noexcept;

// Log what a launcher's status means, unless it is success; return the status.
int report_status(const char* op, int status) noexcept;

// `float32 (1, 512, -1, -1) in format 8`: what is known of a tensor.
std::string described(const nvinfer1::PluginTensorDesc& tensor);

// `2 input(s) of rank 4 2`: what is known of inputs while an engine is built.
std::string ranks_of(const nvinfer1::DimsExprs* inputs, int count);

// Whether every length fits 25 bits, so that 32-bit numbers hold what is computed of it; else
// reported.
bool are_small(const char* op, const nvinfer1::PluginTensorDesc& tensor);

}  // namespace foveate
