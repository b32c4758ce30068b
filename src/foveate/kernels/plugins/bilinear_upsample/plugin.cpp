// SPDX-License-Identifier: Apache-2.0
// `foveate::BilinearUpsample2d` for TensorRT: the field `mode` selects one of two plugins.
#include "plugins/plugin.h"

#include "plugins/launch.cuh"
#include "plugins/bilinear_upsample/launch.h"

#include <cstring>

namespace foveate {
namespace {

constexpr int kMaxScale = 64;
constexpr const char* kMapModes[] = {"half_pixel", "align_corners"};
constexpr char kWindowsMode[] = "windows";

// Map mode: x (N, C, H, W) float32 or float16 to (N, C, scale H, scale W). With a second input of
// the same shape, the sum of both is upsampled without being written to memory.
//
// Fields:
//   scale  integer factor
//   mode   "half_pixel" (the default) or "align_corners"
//   relu   1 to replace negative values, of the sum if there is one, by 0 before upsampling;
//          0 is the default
struct UpsampleMap {
    static constexpr char kName[] = "BilinearUpsample2d";
    static constexpr int kInputs = 2, kOutputs = 1;
    struct Options {
        int scale = 0;
        int align_corners = 0;
        int relu = 0;
    };

    static bool read(const Fields& fields, Options* options) {
        return fields.has_only({"scale", "mode", "relu"}) &&
               fields.read("scale", &options->scale, 1, 1, kMaxScale) &&
               (!fields.has("mode") || fields.read_choice("mode", {kMapModes[0], kMapModes[1]},
                                                          &options->align_corners)) &&
               (!fields.has("relu") || fields.read("relu", &options->relu, 1, 0, 1));
    }

    static int describe(const Options& options, PluginField* fields) {
        const char* mode = kMapModes[options.align_corners];
        fields[0] = {"scale", &options.scale, PluginFieldType::kINT32, 1};
        fields[1] = {"mode", mode, PluginFieldType::kCHAR, static_cast<int>(std::strlen(mode))};
        fields[2] = {"relu", &options.relu, PluginFieldType::kINT32, 1};
        return 3;
    }

    static void types(const DataType* inputs, DataType* outputs) { outputs[0] = inputs[0]; }

    static bool shape(const Options& options, const Shapes& shapes, nvinfer1::DimsExprs* output,
                      nvinfer1::IExprBuilder& builder) {
        const nvinfer1::DimsExprs* inputs = shapes.inputs;
        const int count = shapes.count;
        if (count < 1 || count > kInputs || inputs[0].nbDims != 4 ||
            inputs[count - 1].nbDims != 4) {
            report(kName, "one or two maps (N, C, H, W)", ranks_text(inputs, count));
            return false;
        }
        const nvinfer1::IDimensionExpr* scale = builder.constant(options.scale);
        output->nbDims = 4;
        for (int axis = 0; axis < 4; ++axis) {
            const nvinfer1::IDimensionExpr* length = inputs[0].d[axis];
            output->d[axis] =
                axis < 2 ? length
                         : builder.operation(nvinfer1::DimensionOperation::kPROD, *length, *scale);
        }
        return true;
    }

    static bool is_usable(const PluginTensorDesc& map) {
        return (map.type == DataType::kFLOAT || map.type == DataType::kHALF) &&
               map.format == nvinfer1::TensorFormat::kLINEAR;
    }

    static bool supports(int position, const nvinfer1::DynamicPluginTensorDesc* tensors, int) {
        const PluginTensorDesc& tensor = tensors[position].desc;
        return is_usable(tensor) && tensor.type == tensors[0].desc.type;
    }

    static bool check(const Options& options, const PluginTensorDesc* inputs, int count,
                      const PluginTensorDesc* output) {
        const PluginTensorDesc& map = inputs[0];
        if (count < 1 || count > kInputs) {
            report(kName, "1 or 2 inputs", std::to_string(count));
            return false;
        }
        if (map.dims.nbDims != 4 || !is_usable(map)) {
            report(kName, "a map (N, C, H, W), float32 or float16 in format 0", to_text(map));
            return false;
        }
        for (const PluginTensorDesc* other : {&inputs[count - 1], output}) {
            if (other->type != map.type || other->format != map.format) {
                report(kName, "all tensors like the first, " + to_text(map), to_text(*other));
                return false;
            }
        }
        for (int axis = 0; axis < 4; ++axis) {
            if (inputs[count - 1].dims.d[axis] != map.dims.d[axis]) {
                report(kName, "a second input of the first's shape, " + to_text(map),
                       to_text(inputs[count - 1]));
                return false;
            }
        }
        if (map.dims.d[3] > kMaxMapWidth / options.scale) {
            report(kName, "an output at most " + std::to_string(kMaxMapWidth) + " wide",
                   std::to_string(map.dims.d[3]) + " x " + std::to_string(options.scale));
            return false;
        }
        return are_small(kName, map);
    }

    static size_t workspace(const Options&, const PluginTensorDesc*, const PluginTensorDesc*) {
        return 0;
    }

    static int run(const Options& options, const Call& call) {
        const nvinfer1::Dims& dims = call.inputs[0].dims;
        const int height = static_cast<int>(dims.d[2]), width = static_cast<int>(dims.d[3]);
        const void* second = call.count == 2 ? call.sources[1] : nullptr;
        return foveate_launch_upsample_map(
            call.sources[0], second, call.targets[0], static_cast<int>(dims.d[0]),
            static_cast<int>(dims.d[1]), height, width, options.scale * height,
            options.scale * width, options.align_corners, options.relu,
            call.inputs[0].type == DataType::kHALF ? kFloat16 : kFloat32, call.stream);
    }
};

// Windows mode: logits (K, S, S) float32 or float16, geometry (K, 4) float32 x0, y0, width, height
// (a width of 0 marks padding) and size (2,) int64, the height H and the width W of the image, to
// bits (K, H, ceil(W / 32)) int32, areas (K,) int32 and boxes (K, 4) float32.
//
// Fields:
//   mode       "windows"
//   threshold  a pixel is foreground if its logit is larger
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
            call.sources[0], static_cast<const float*>(call.sources[1]),
            size == nullptr ? nullptr : size + 1, static_cast<int*>(call.targets[0]),
            static_cast<int*>(call.targets[1]), static_cast<float*>(call.targets[2]),
            static_cast<int*>(call.workspace), static_cast<int>(logits.d[0]),
            static_cast<int>(logits.d[1]), static_cast<int>(bits.d[1]),
            static_cast<int>(32 * bits.d[2]), options.threshold, type, call.stream);
    }
};

struct BilinearUpsample {
    static constexpr char kName[] = "BilinearUpsample2d";
    static inline const nvinfer1::PluginField kFields[] = {
        {"scale", nullptr, nvinfer1::PluginFieldType::kINT32, 1},
        {"mode", nullptr, nvinfer1::PluginFieldType::kCHAR, 0},
        {"relu", nullptr, nvinfer1::PluginFieldType::kINT32, 1},
        {"threshold", nullptr, nvinfer1::PluginFieldType::kFLOAT32, 1},
    };

    static nvinfer1::IPluginV3* create(const Fields& fields) {
        int mode = 0;
        if (fields.has("mode") &&
            !fields.read_choice("mode", {kMapModes[0], kMapModes[1], kWindowsMode}, &mode)) {
            return nullptr;
        }
        return mode == 2 ? make_plugin<PasteWindows>(fields) : make_plugin<UpsampleMap>(fields);
    }
};

}  // namespace

nvinfer1::IPluginCreatorInterface* bilinear_upsample_creator() {
    static Creator<BilinearUpsample> creator;
    return &creator;
}

}  // namespace foveate
