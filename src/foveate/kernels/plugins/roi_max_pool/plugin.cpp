// SPDX-License-Identifier: Apache-2.0
// `foveate::RoiMaxPool2d` for TensorRT: features (N, C, H, W) float32 or float16 and rois (R, 5)
// float32 to pooled (R, C, rows, columns), as defined in reference.py.
//
// Fields:
//   pooled_shape   (2,) rows and columns of bins
//   spatial_scale  map pixels per image pixel
//   rounding       0 "caffe" (the default) or 1 "v2"
//   tables         0 (the default) to pool directly, 1 to pool from tables of squares, which need a
//                  workspace of three maps and save memory traffic for many large regions of a map
//                  that does not fit in the L2 cache
//
// The kernels read channels last, so maps are kHWC in float32 and kHWC8 in float16. The latter pads
// the channels to a multiple of 8, and the padding is pooled like the other channels.
#include "plugins/plugin.h"

#include "plugins/launch.cuh"
#include "plugins/roi_max_pool/launch.h"

namespace foveate {
namespace {

using nvinfer1::TensorFormat;

constexpr int kMaxBins = 1024;
constexpr int kTables = 3;
constexpr size_t kTableAlignment = 256;

bool is_float_map(const PluginTensorDesc& map) {
    return map.type == DataType::kFLOAT && map.format == TensorFormat::kHWC;
}

bool is_half_map(const PluginTensorDesc& map) {
    return map.type == DataType::kHALF && map.format == TensorFormat::kHWC8;
}

// Return the channels of a pixel in memory, including the padding.
int64_t stored_channels(const PluginTensorDesc& map) {
    return map.type == DataType::kHALF ? (map.dims.d[1] + 7) / 8 * 8 : map.dims.d[1];
}

size_t table_bytes(const PluginTensorDesc& map) {
    const int64_t elements = map.dims.d[0] * map.dims.d[2] * map.dims.d[3] * stored_channels(map);
    const size_t bytes = static_cast<size_t>(elements) * (map.type == DataType::kHALF ? 2 : 4);
    return (bytes + kTableAlignment - 1) / kTableAlignment * kTableAlignment;
}

struct RoiMaxPool {
    static constexpr char kName[] = "RoiMaxPool2d";
    static constexpr int kInputs = 2, kOutputs = 1;
    static inline const PluginField kFields[] = {
        {"pooled_shape", nullptr, PluginFieldType::kINT32, 2},
        {"spatial_scale", nullptr, PluginFieldType::kFLOAT32, 1},
        {"rounding", nullptr, PluginFieldType::kINT32, 1},
        {"tables", nullptr, PluginFieldType::kINT32, 1},
    };

    static nvinfer1::IPluginV3* create(const Fields& fields) {
        return make_plugin<RoiMaxPool>(fields);
    }

    struct Options {
        int pooled_shape[2] = {0, 0};
        float spatial_scale = 0.0f;
        int rounding = 0;
        int tables = 0;
    };

    static bool read(const Fields& fields, Options* options) {
        return fields.has_only({"pooled_shape", "spatial_scale", "rounding", "tables"}) &&
               fields.read("pooled_shape", options->pooled_shape, 2, 1, kMaxBins) &&
               fields.read_positive("spatial_scale", &options->spatial_scale) &&
               (!fields.has("rounding") || fields.read("rounding", &options->rounding, 1, 0, 1)) &&
               (!fields.has("tables") || fields.read("tables", &options->tables, 1, 0, 1));
    }

    static int describe(const Options& options, PluginField* fields) {
        fields[0] = {"pooled_shape", options.pooled_shape, PluginFieldType::kINT32, 2};
        fields[1] = {"spatial_scale", &options.spatial_scale, PluginFieldType::kFLOAT32, 1};
        fields[2] = {"rounding", &options.rounding, PluginFieldType::kINT32, 1};
        fields[3] = {"tables", &options.tables, PluginFieldType::kINT32, 1};
        return 4;
    }

    static void types(const DataType* inputs, DataType* outputs) { outputs[0] = inputs[0]; }

    static bool shape(const Options& options, const Shapes& shapes, nvinfer1::DimsExprs* output,
                      nvinfer1::IExprBuilder& builder) {
        const nvinfer1::DimsExprs* inputs = shapes.inputs;
        if (shapes.count != 2 || inputs[0].nbDims != 4 || inputs[1].nbDims != 2) {
            report(kName, "features (N, C, H, W) and rois (R, 5)",
                   ranks_text(inputs, shapes.count));
            return false;
        }
        const nvinfer1::IDimensionExpr& numbers = *inputs[1].d[1];
        if (numbers.isConstant() && numbers.getConstantValue() != 5) {
            report(kName, "rois (R, 5)", "(R, " + std::to_string(numbers.getConstantValue()) + ")");
            return false;
        }
        output->nbDims = 4;
        output->d[0] = inputs[1].d[0];
        output->d[1] = inputs[0].d[1];
        output->d[2] = builder.constant(options.pooled_shape[0]);
        output->d[3] = builder.constant(options.pooled_shape[1]);
        return true;
    }

    static bool supports(int position, const nvinfer1::DynamicPluginTensorDesc* tensors,
                         int inputs) {
        const PluginTensorDesc& tensor = tensors[position].desc;
        if (inputs != 2) return false;
        if (position == 0) return is_float_map(tensor) || is_half_map(tensor);
        if (position == 1) {
            return tensor.type == DataType::kFLOAT && tensor.format == TensorFormat::kLINEAR;
        }
        return tensor.type == tensors[0].desc.type && tensor.format == tensors[0].desc.format;
    }

    static bool check(const Options&, const PluginTensorDesc* inputs, int count,
                      const PluginTensorDesc* output) {
        if (count != 2) {
            report(kName, "2 inputs", std::to_string(count));
            return false;
        }
        const PluginTensorDesc &map = inputs[0], &rois = inputs[1];
        if (map.dims.nbDims != 4 || !(is_float_map(map) || is_half_map(map))) {
            report(kName, "features (N, C, H, W), float32 in format 8 or float16 in format 2",
                   to_text(map));
            return false;
        }
        if (rois.dims.nbDims != 2 || rois.dims.d[1] != 5 || rois.type != DataType::kFLOAT) {
            report(kName, "rois (R, 5) float32", to_text(rois));
            return false;
        }
        if (output->type != map.type || output->format != map.format) {
            report(kName, "an output like the features, " + to_text(map), to_text(*output));
            return false;
        }
        return are_small(kName, map) && are_small(kName, rois);
    }

    static size_t workspace(const Options& options, const PluginTensorDesc* inputs,
                            const PluginTensorDesc*) {
        return options.tables == 0 ? 0 : kTables * table_bytes(inputs[0]);
    }

    static int run(const Options& options, const Call& call) {
        const PluginTensorDesc& map = call.inputs[0];
        const int batch = static_cast<int>(map.dims.d[0]), height = static_cast<int>(map.dims.d[2]);
        const int width = static_cast<int>(map.dims.d[3]);
        const int channels = static_cast<int>(stored_channels(map));
        const int roi_count = static_cast<int>(call.inputs[1].dims.d[0]);
        const int rows = options.pooled_shape[0], columns = options.pooled_shape[1];
        const int type = map.type == DataType::kHALF ? kFloat16 : kFloat32;
        const float* rois = static_cast<const float*>(call.sources[1]);
        if (options.tables == 0) {
            return foveate_launch_roi_max_pool(
                call.sources[0], rois, call.targets[0], batch, height, width, channels, roi_count,
                rows, columns, options.spatial_scale, options.rounding, type, call.stream);
        }
        if (call.workspace == nullptr && table_bytes(map) > 0) return kNullPointer;
        // Squares of 2, 4 and 8 pixels per side; each table is made from the one before.
        const void* source[kTables + 1] = {call.sources[0]};
        for (int i = 0; i < kTables; ++i) {
            void* table =
                static_cast<char*>(call.workspace) + static_cast<size_t>(i) * table_bytes(map);
            const int status = foveate_launch_square_table(source[i], table, batch, height, width,
                                                           channels, 1 << i, type, call.stream);
            if (status != kOk) return status;
            source[i + 1] = table;
        }
        return foveate_launch_roi_max_pool_tables(source[0], source[1], source[2], source[3], rois,
                                                  call.targets[0], batch, height, width, channels,
                                                  roi_count, rows, columns, options.spatial_scale,
                                                  options.rounding, type, call.stream);
    }
};

}  // namespace

nvinfer1::IPluginCreatorInterface* roi_max_pool_creator() {
    static Creator<RoiMaxPool> creator;
    return &creator;
}

}  // namespace foveate
