// SPDX-License-Identifier: Apache-2.0
#include "plugins/fields.h"

#include <cmath>
#include <cstring>

namespace foveate {

using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;

namespace {

// Serialized plugins have 32-bit integers; the ONNX parser passes 64-bit integers.
bool is_integer(const PluginField& field) {
    return field.type == PluginFieldType::kINT32 || field.type == PluginFieldType::kINT64;
}

long long integer_at(const PluginField& field, int i) {
    if (field.type == PluginFieldType::kINT32) return static_cast<const int32_t*>(field.data)[i];
    return static_cast<const int64_t*>(field.data)[i];
}

bool starts_with(const char* name, const char* start) {
    return std::strncmp(name, start, std::strlen(start)) == 0;
}

std::string typed(const PluginField& field) {
    return std::to_string(field.length) + " value(s) of field type " +
           std::to_string(static_cast<int>(field.type));
}

}  // namespace

const PluginField* Fields::find(const char* name) const {
    if (given_ == nullptr || given_->fields == nullptr) return nullptr;
    for (int i = 0; i < given_->nbFields; ++i) {
        const PluginField& field = given_->fields[i];
        if (field.name != nullptr && std::strcmp(field.name, name) == 0) return &field;
    }
    return nullptr;
}

bool Fields::refuse(const char* name, const std::string& expected, const std::string& found) const {
    report(op_, "field " + std::string(name) + " to be " + expected, found);
    return false;
}

bool Fields::has_only(std::initializer_list<const char*> names) const {
    if (given_ == nullptr || given_->fields == nullptr) return true;
    for (int i = 0; i < given_->nbFields; ++i) {
        const char* found = given_->fields[i].name;
        bool known = found != nullptr &&
                     (starts_with(found, "plugin_") || starts_with(found, "tensorrt_plugin_"));
        std::string all;
        for (const char* name : names) {
            known = known || (found != nullptr && std::strcmp(found, name) == 0);
            all += (all.empty() ? "" : ", ") + std::string(name);
        }
        if (!known) {
            report(op_, "the fields " + all, found == nullptr ? "one without a name" : found);
            return false;
        }
    }
    return true;
}

bool Fields::read(const char* name, int* values, int count, int low, int high) const {
    const std::string expected = std::to_string(count) + " integer(s) from " + std::to_string(low) +
                                 " to " + std::to_string(high);
    const PluginField* field = find(name);
    if (field == nullptr) return refuse(name, expected, "none");
    if (!is_integer(*field) || field->length != count || field->data == nullptr) {
        return refuse(name, expected, typed(*field));
    }
    for (int i = 0; i < count; ++i) {
        const long long value = integer_at(*field, i);
        if (value < low || value > high) return refuse(name, expected, std::to_string(value));
        values[i] = static_cast<int>(value);
    }
    return true;
}

bool Fields::read_finite(const char* name, float* value) const {
    return read_above(-INFINITY, name, "a finite float32", value);
}

bool Fields::read_positive(const char* name, float* value) const {
    return read_above(0.0f, name, "a finite float32 above 0", value);
}

bool Fields::read_above(float low, const char* name, const char* expected, float* value) const {
    const PluginField* field = find(name);
    if (field == nullptr) return refuse(name, expected, "none");
    if (field->type != PluginFieldType::kFLOAT32 || field->length != 1 || field->data == nullptr) {
        return refuse(name, expected, typed(*field));
    }
    const float found = *static_cast<const float*>(field->data);
    if (!(found > low) || !std::isfinite(found)) {
        return refuse(name, expected, std::to_string(found));
    }
    *value = found;
    return true;
}

bool Fields::read_choice(const char* name, std::initializer_list<const char*> choices,
                         int* value) const {
    std::string expected = "one of";
    for (const char* choice : choices) expected += " " + std::string(choice);
    const PluginField* field = find(name);
    if (field == nullptr) return refuse(name, expected, "none");
    if (field->type != PluginFieldType::kCHAR || field->data == nullptr || field->length < 0) {
        return refuse(name, expected, typed(*field));
    }
    // The length may or may not include a terminating zero.
    const char* text = static_cast<const char*>(field->data);
    const std::string found(text, strnlen(text, static_cast<size_t>(field->length)));
    int index = 0;
    for (const char* choice : choices) {
        if (found == choice) {
            *value = index;
            return true;
        }
        ++index;
    }
    return refuse(name, expected, found);
}

}  // namespace foveate
