// SPDX-License-Identifier: Apache-2.0
// `foveate::BilinearUpsample2d` for TensorRT, map mode: x (N, C, H, W) float32 or float16 to
// (N, C, scale H, scale W); with a second input of the same shape, their sum is upsampled, and
// never written.
//
// Fields: scale, a whole factor; mode, "half_pixel" (the default) or "align_corners"; relu, 1 to
// drop what is negative (of the sum) before, 0 (the default) to keep it.
#include "plugin/plugin.h"

#include "bilinear_upsample/launch.h"
#include "device/launch.cuh"

#include <cstring>

namespace foveate {
namespace {

using nvinfer1::DataType;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorFormat;

constexpr int kMostScale = 64;
constexpr const char* kModes[] = {"half_pixel", "align_corners"};

bool is_usable(const PluginTensorDesc& map) {
    return (map.type == DataType::kFLOAT || map.type == DataType::kHALF) &&
           map.format == TensorFormat::kLINEAR;
}

struct BilinearUpsample {
    static constexpr char kName[] = "BilinearUpsample2d";
    static constexpr int kInputs = 2;
    static inline const PluginField kFields[] = {
        {"scale", nullptr, PluginFieldType::kINT32, 1},
        {"mode", nullptr, PluginFieldType::kCHAR, 0},
        {"relu", nullptr, PluginFieldType::kINT32, 1},
    };

    struct Options {
        int scale = 0;
        int align_corners = 0;
        int relu = 0;
    };

    static bool read(const Fields& fields, Options* options) {
        return fields.are_among({"scale", "mode", "relu"}) &&
               fields.read("scale", &options->scale, 1, 1, kMostScale) &&
               (!fields.has("mode") ||
                fields.read_choice("mode", {kModes[0], kModes[1]}, &options->align_corners)) &&
               (!fields.has("relu") || fields.read("relu", &options->relu, 1, 0, 1));
    }

    static int describe(const Options& options, PluginField* fields) {
        const char* mode = kModes[options.align_corners];
        fields[0] = {"scale", &options.scale, PluginFieldType::kINT32, 1};
        fields[1] = {"mode", mode, PluginFieldType::kCHAR, static_cast<int>(std::strlen(mode))};
        fields[2] = {"relu", &options.relu, PluginFieldType::kINT32, 1};
        return 3;
    }

    static bool shape(const Options& options, const nvinfer1::DimsExprs* inputs, int count,
                      nvinfer1::DimsExprs* output, nvinfer1::IExprBuilder& builder) {
        if (count < 1 || count > kInputs || inputs[0].nbDims != 4 ||
            inputs[count - 1].nbDims != 4) {
            std::string found = std::to_string(count) + " input(s) of rank";
            for (int i = 0; i < count; ++i) found += " " + std::to_string(inputs[i].nbDims);
            report(kName, "one or two maps (N, C, H, W)", found);
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

    static bool supports(int place, const nvinfer1::DynamicPluginTensorDesc* tensors, int) {
        const PluginTensorDesc& tensor = tensors[place].desc;
        return is_usable(tensor) && tensor.type == tensors[0].desc.type;
    }

    static bool check(const Options& options, const PluginTensorDesc* inputs, int count,
                      const PluginTensorDesc& output) {
        const PluginTensorDesc& map = inputs[0];
        if (count < 1 || count > kInputs) {
            report(kName, "1 or 2 inputs", std::to_string(count));
            return false;
        }
        if (map.dims.nbDims != 4 || !is_usable(map)) {
            report(kName, "a map (N, C, H, W), float32 or float16 in format 0", described(map));
            return false;
        }
        for (const PluginTensorDesc* other : {&inputs[count - 1], &output}) {
            if (other->type != map.type || other->format != map.format) {
                report(kName, "all tensors like the first, " + described(map), described(*other));
                return false;
            }
        }
        for (int axis = 0; axis < 4; ++axis) {
            if (inputs[count - 1].dims.d[axis] != map.dims.d[axis]) {
                report(kName, "a second input of the first's shape, " + described(map),
                       described(inputs[count - 1]));
                return false;
            }
        }
        if (map.dims.d[3] > kMapWidest / options.scale) {
            report(kName, "an output at most " + std::to_string(kMapWidest) + " wide",
                   std::to_string(map.dims.d[3]) + " x " + std::to_string(options.scale));
            return false;
        }
        return are_small(kName, map);
    }

    static size_t workspace(const Options&, const PluginTensorDesc&) { return 0; }

    static int run(const Options& options, const PluginTensorDesc* inputs,
                   const void* const* addresses, int count, void* output, void*,
                   cudaStream_t stream) {
        const nvinfer1::Dims& dims = inputs[0].dims;
        const int height = static_cast<int>(dims.d[2]), width = static_cast<int>(dims.d[3]);
        const void* second = count == 2 ? addresses[1] : nullptr;
        return foveate_launch_upsample_map(
            addresses[0], second, nullptr, nullptr, nullptr, output, static_cast<int>(dims.d[0]),
            static_cast<int>(dims.d[1]), height, width, options.scale * height,
            options.scale * width, options.align_corners, options.relu, 0, 0,
            inputs[0].type == DataType::kHALF ? kFloat16 : kFloat32, stream);
    }
};

}  // namespace

nvinfer1::IPluginCreatorInterface* bilinear_upsample_creator() {
    static Creator<BilinearUpsample> creator;
    return &creator;
}

}  // namespace foveate
