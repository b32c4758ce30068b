// SPDX-License-Identifier: Apache-2.0
// `foveate::BilinearUpsample2d` for TensorRT: the field `mode` selects one of two plugins.
#include "plugins/bilinear_upsample/map_plugin.h"
#include "plugins/bilinear_upsample/windows_plugin.h"

namespace foveate {
namespace {

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
