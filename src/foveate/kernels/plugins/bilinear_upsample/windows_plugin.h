// SPDX-License-Identifier: Apache-2.0
// The windows mode of `foveate::BilinearUpsample2d`: logits (K, S, S) float32 or float16, geometry
// (K, 4) float32 x0, y0, width, height (0: padding) and size (2,) int64, the image's height H and
// width W, to bits (K, H, ceil(W / 32)) int32, areas (K,) int32 and boxes (K, 4) float32.
//
// Fields:
//   mode       "windows"
//   threshold  a pixel is foreground if its logit is larger
#pragma once

#include "plugins/plugin.h"

#include "plugins/bilinear_upsample/launch.h"
#include "device/launch.cuh"

namespace foveate {

constexpr char kWindowsMode[] = "windows";

struct PasteWindows {
    static constexpr char kName[] = "BilinearUpsample2d";
    static constexpr int kInputs = 3, kOutputs = 3;

    // Every input and output: its description in messages, its type and its rank.
    struct Kind {
        const char* text;
        DataType type;
        int rank;
    };
    static constexpr Kind kKinds[kInputs + kOutputs] = {
        {"logits (K, S, S), float32 or float16", DataType::kFLOAT, 3},
        {"geometry (K, 4) float32", DataType::kFLOAT, 2},
        {"size (2,) int64", DataType::kINT64, 1},
        {"bits (K, H, words) int32", DataType::kINT32, 3},
        {"areas (K,) int32", DataType::kINT32, 1},
        {"boxes (K, 4) float32", DataType::kFLOAT, 2},
    };

    struct Options {
        float threshold = 0.0f;
    };

    static bool read(const Fields& fields, Options* options) {
        return fields.has_only({"mode", "threshold"}) &&
               fields.read_finite("threshold", &options->threshold);
    }

    static int describe(const Options& options, PluginField* fields) {
        fields[0] = {"mode", kWindowsMode, PluginFieldType::kCHAR, sizeof kWindowsMode - 1};
        fields[1] = {"threshold", &options.threshold, PluginFieldType::kFLOAT32, 1};
        return 2;
    }

    static void types(const DataType*, DataType* outputs) {
        for (int i = 0; i < kOutputs; ++i) outputs[i] = kKinds[kInputs + i].type;
    }

    static bool shape(const Options&, const Shapes& shapes, nvinfer1::DimsExprs* outputs,
                      nvinfer1::IExprBuilder& builder) {
        bool fits = shapes.count == kInputs && shapes.value_count == 1;
        for (int i = 0; fits && i < kInputs; ++i) fits = shapes.inputs[i].nbDims == kKinds[i].rank;
        if (!fits || shapes.values[0].nbDims != 2) {
            report(kName, "logits (K, S, S), geometry (K, 4), size (2,), and the size as a shape",
                   ranks_text(shapes.inputs, shapes.count) + " and " +
                       std::to_string(shapes.value_count) + " shape(s)");
            return false;
        }
        const nvinfer1::IDimensionExpr* windows = shapes.inputs[0].d[0];
        const nvinfer1::DimsExprs& size = shapes.values[0];
        const auto* words = builder.operation(nvinfer1::DimensionOperation::kCEIL_DIV, *size.d[1],
                                              *builder.constant(32));
        outputs[0] = {3, {windows, size.d[0], words}};
        outputs[1] = {1, {windows}};
        outputs[2] = {2, {windows, builder.constant(4)}};
        return true;
    }

    static bool has_kind(int position, const PluginTensorDesc& tensor) {
        const bool half = position == 0 && tensor.type == DataType::kHALF;
        return (half || tensor.type == kKinds[position].type) &&
               tensor.format == nvinfer1::TensorFormat::kLINEAR;
    }

    static bool supports(int position, const nvinfer1::DynamicPluginTensorDesc* tensors,
                         int inputs) {
        return inputs == kInputs && has_kind(position, tensors[position].desc);
    }

    static bool check(const Options&, const PluginTensorDesc* inputs, int count,
                      const PluginTensorDesc* outputs) {
        if (count != kInputs) {
            report(kName, "3 inputs and a shape", std::to_string(count) + " input(s)");
            return false;
        }
        // Expected lengths, -1 for any.
        const int64_t windows = inputs[0].dims.d[0], samples = inputs[0].dims.d[1];
        const int64_t lengths[kInputs + kOutputs][3] = {
            {windows, samples, samples}, {windows, 4}, {2},
            {windows, -1, -1},           {windows},    {windows, 4}};
        for (int position = 0; position < kInputs + kOutputs; ++position) {
            const bool is_input = position < kInputs;
            const PluginTensorDesc& tensor =
                is_input ? inputs[position] : outputs[position - kInputs];
            bool fits = has_kind(position, tensor) && tensor.dims.nbDims == kKinds[position].rank;
            for (int axis = 0; fits && axis < kKinds[position].rank; ++axis) {
                const int64_t expected = lengths[position][axis];
                fits = expected == -1 || tensor.dims.d[axis] == expected;
            }
            if (!fits) {
                report(kName, std::string(kKinds[position].text) + " in format 0", to_text(tensor));
                return false;
            }
            if (!are_small(kName, tensor)) return false;
        }
        return true;
    }

    static size_t workspace(const Options&, const PluginTensorDesc*,
                            const PluginTensorDesc* outputs) {
        const nvinfer1::Dims& bits = outputs[0].dims;
        return static_cast<size_t>(foveate_paste_windows_scratch_bytes(
            static_cast<int>(bits.d[0]), static_cast<int>(bits.d[1])));
    }

    static int run(const Options& options, const Call& call) {
        const nvinfer1::Dims &logits = call.inputs[0].dims, &bits = call.outputs[0].dims;
        // A node passes the size twice. As a shape input it gives the lengths of the outputs, but
        // their words per row determine W only up to a multiple of 32. So the kernel reads W from
        // the copy on the device, and the CPU does not wait for it.
        const auto* size = static_cast<const long long*>(call.sources[2]);
        if (logits.d[0] > 0 && size == nullptr) return kNullPointer;
        const int type = call.inputs[0].type == DataType::kHALF ? kFloat16 : kFloat32;
        return foveate_launch_paste_windows(
            call.sources[0], static_cast<const float*>(call.sources[1]), nullptr,
            size == nullptr ? nullptr : size + 1, static_cast<int*>(call.targets[0]),
            static_cast<int*>(call.targets[1]), static_cast<float*>(call.targets[2]),
            static_cast<int*>(call.workspace), static_cast<int>(logits.d[0]),
            static_cast<int>(logits.d[1]), static_cast<int>(bits.d[1]),
            static_cast<int>(32 * bits.d[2]), options.threshold, 0, type, call.stream);
    }
};

}  // namespace foveate
