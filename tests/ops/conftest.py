from support.operator_suite import parametrize_shapes


def pytest_generate_tests(metafunc):
    parametrize_shapes(metafunc)
