// SPDX-License-Identifier: Apache-2.0
// The fields that TensorRT passes to a creator. Every function that reads returns false and logs an
// error if the field is missing or invalid.
#pragma once

#include "plugins/report.h"

#include <initializer_list>

namespace foveate {

class Fields {
  public:
    Fields(const char* op, const nvinfer1::PluginFieldCollection* given) : op_(op), given_(given) {}

    // Whether all fields have one of these names, apart from plugin_* and tensorrt_plugin_*, which
    // TensorRT adds.
    bool has_only(std::initializer_list<const char*> names) const;

    bool has(const char* name) const { return find(name) != nullptr; }

    // Read `count` integers, each within [low, high].
    bool read(const char* name, int* values, int count, int low, int high) const;

    // Read a finite number, or one that is also above 0.
    bool read_finite(const char* name, float* value) const;
    bool read_positive(const char* name, float* value) const;

    // Read a string that is one of `choices`; `value` becomes its index.
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
