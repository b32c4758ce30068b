// SPDX-License-Identifier: Apache-2.0
// The map mode of `foveate::BilinearUpsample2d`: x (N, C, H, W) float32 or float16 to
// (N, C, scale H, scale W). With a second input of the same shape, the sum of both is upsampled
// without being written to memory.
//
// Fields:
//   scale  integer factor
//   mode   "half_pixel" (the default) or "align_corners"
//   relu   1 to replace negative values, of the sum if there is one, by 0 before upsampling; 0 is
//   the
//          default
#pragma once

#include "plugins/plugin.h"

#include "plugins/bilinear_upsample/launch.h"
#include "device/launch.cuh"

#include <cstring>

namespace foveate {

constexpr int kMaxScale = 64;
constexpr const char* kMapModes[] = {"half_pixel", "align_corners"};

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

}  // namespace foveate
