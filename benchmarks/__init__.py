"""Speed of machin_fast against its peers: ``python -m benchmarks --help``.

Each ``bench_<stem>.py`` yields rows; a row is one operation on one size, and its candidates are
ours and every peer that is installed (``pip install machin_fast[bench]``). What is fair, and what
is demanded of us, is written once: in ``harness.py`` and beside each row.
"""
