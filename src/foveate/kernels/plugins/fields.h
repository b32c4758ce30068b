// SPDX-License-Identifier: Apache-2.0
// Reading the fields that a creator is given. What is missing or wrong is reported and gives false.
#pragma once

#include "plugins/report.h"

#include <initializer_list>

namespace foveate {

class Fields {
  public:
    Fields(const char* op, const nvinfer1::PluginFieldCollection* given) : op_(op), given_(given) {}

    // Whether there is no field but those of these names. (plugin_* and tensorrt_plugin_* are
    // TensorRT's own.)
    bool are_among(std::initializer_list<const char*> names) const;

    bool has(const char* name) const { return find(name) != nullptr; }

    // `count` integers within [low, high].
    bool read(const char* name, int* values, int count, int low, int high) const;

    // A finite number; or one above 0.
    bool read_finite(const char* name, float* value) const;
    bool read_positive(const char* name, float* value) const;

    // A text that is one of `choices`; `value` becomes its place.
    bool read_choice(const char* name, std::initializer_list<const char*> choices,
                     int* value) const;

  private:
    const nvinfer1::PluginField* find(const char* name) const;
    bool read_above(float low, const char* name, const char* expected, float* value) const;
    bool refuse(const char* name, const std::string& expected, const std::string& found) const;

    const char* op_;
    const nvinfer1::PluginFieldCollection* given_;
};

}  // namespace foveate
