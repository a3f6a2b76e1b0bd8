from tests.operators.conftest import emulator as emulator
