// Where the pointers of a plain struct lie: found from the types of its fields, and of the fields of these.
#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>
#include <vector>

namespace ladderseg::cuda {
namespace fields {

// Converts to the type of any field.
struct Anything {
  template <class T>
  operator T() const;
};

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"  // clang warns of them here too, where they are the point
template <class Struct, class... Values>
constexpr auto takes(int) -> decltype(Struct{std::declval<Values>()...}, true) {
  return true;
}
template <class Struct, class... Values>
constexpr bool takes(...) {
  return false;
}
#pragma GCC diagnostic pop

// Number of fields of an aggregate: the most values that it can be made from. Arrays would count several times, and do
// not compile below.
template <class Struct, class... Values>
constexpr std::size_t count() {
  if constexpr (takes<Struct, Values..., Anything>(0))
    return count<Struct, Values..., Anything>();
  else
    return sizeof...(Values);
}

// Calls `each` with every field of `value`.
template <class Struct, class Each>
void visit(Struct& value, const Each& each) {
  constexpr std::size_t n = count<Struct>();
  static_assert(n > 0 && n <= 20, "add a line for this number of fields");
  const auto all = [&each](auto&... field) { (each(field), ...); };
#define FIELDS(number, ...)         \
  else if constexpr (n == number) { \
    auto& [__VA_ARGS__] = value;    \
    all(__VA_ARGS__);               \
  }
  if constexpr (n == 1) {
    auto& [a] = value;
    all(a);
  }
  FIELDS(2, a, b)
  FIELDS(3, a, b, c)
  FIELDS(4, a, b, c, d)
  FIELDS(5, a, b, c, d, e)
  FIELDS(6, a, b, c, d, e, f)
  FIELDS(7, a, b, c, d, e, f, g)
  FIELDS(8, a, b, c, d, e, f, g, h)
  FIELDS(9, a, b, c, d, e, f, g, h, i)
  FIELDS(10, a, b, c, d, e, f, g, h, i, j)
  FIELDS(11, a, b, c, d, e, f, g, h, i, j, k)
  FIELDS(12, a, b, c, d, e, f, g, h, i, j, k, l)
  FIELDS(13, a, b, c, d, e, f, g, h, i, j, k, l, m)
  FIELDS(14, a, b, c, d, e, f, g, h, i, j, k, l, m, o)
  FIELDS(15, a, b, c, d, e, f, g, h, i, j, k, l, m, o, p)
  FIELDS(16, a, b, c, d, e, f, g, h, i, j, k, l, m, o, p, q)
  FIELDS(17, a, b, c, d, e, f, g, h, i, j, k, l, m, o, p, q, r)
  FIELDS(18, a, b, c, d, e, f, g, h, i, j, k, l, m, o, p, q, r, s)
  FIELDS(19, a, b, c, d, e, f, g, h, i, j, k, l, m, o, p, q, r, s, t)
  FIELDS(20, a, b, c, d, e, f, g, h, i, j, k, l, m, o, p, q, r, s, t, u)
#undef FIELDS
}

template <class Field>
void add_pointers(Field& field, const char* start, std::vector<std::size_t>& offsets) {
  if constexpr (std::is_pointer_v<Field>) {
    offsets.push_back(static_cast<std::size_t>(reinterpret_cast<const char*>(&field) - start));
  } else if constexpr (std::is_class_v<Field>) {
    visit(field, [&](auto& inner) { add_pointers(inner, start, offsets); });
  } else {
    static_assert(std::is_arithmetic_v<Field> || std::is_enum_v<Field>, "a field that may hold a pointer");
  }
}

}  // namespace fields

// Offsets in bytes of all pointers in a Struct, in order.
template <class Struct>
const std::vector<std::size_t>& pointer_fields() {
  static_assert(std::is_aggregate_v<Struct> && std::is_trivially_copyable_v<Struct>);
  static const std::vector<std::size_t> offsets = [] {
    std::vector<std::size_t> found;
    Struct value{};
    fields::add_pointers(value, reinterpret_cast<const char*>(&value), found);
    return found;
  }();
  return offsets;
}

}  // namespace ladderseg::cuda
