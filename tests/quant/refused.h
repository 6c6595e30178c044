#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "qwen3fp4/base/error.h"

namespace qf {

// The sentence of the qf::Error that `call` throws.
template <class Call>
std::string refusal(Call call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kUnreadable);
    return error.what();
  }
  ADD_FAILURE() << "nothing was refused";
  return "";
}

}  // namespace qf
