from __future__ import annotations

from showtell.errors import DataError, FetchError, printable


def test_a_name_out_of_a_file_never_commands_the_terminal():
    name = "a\0b\x1b[2Jc\r\u202e\x9b\ud800"
    assert printable(name) == r"a\u0000b\u001b[2Jc\u000d\u202e\u009b\ud800"
    assert str(DataError(f"the photo {name}")) == f"the photo {printable(name)}"
    assert str(FetchError(name)).isprintable()
    assert printable("two\nlines\tof café, собака 🐶") == "two\nlines\tof café, собака 🐶"
