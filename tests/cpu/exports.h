// What the exported functions of this directory share. They are compiled for one instruction set and one Element.
#pragma once

#include <cstdint>

#define EXPORT extern "C" __attribute__((visibility("default")))

using Element = LADDERSEG_TEST_ELEMENT;
