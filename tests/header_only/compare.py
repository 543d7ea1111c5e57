"""Runs two programs and checks that both succeed and print the same."""
import subprocess
import sys

outputs = [subprocess.run([program], check=True, capture_output=True, text=True).stdout for program in sys.argv[1:]]
print("\n".join(outputs))
if not outputs[0] or len(set(outputs)) != 1:
    sys.exit("header-only and compiled results differ")
