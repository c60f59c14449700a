"""The library does without the zoo, and the zoo says what it needs."""

import json
import subprocess
import sys


PROGRAM = """
import json, sys
import wsl, wsl.encoders

found = {"loaded": [x for x in ("wsl.zoo", "optax", "sklearn") if x in sys.modules]}
for name in ("optax", "sklearn"):
    # An import of what is None here fails as if nothing were installed.
    sys.modules[name] = None
    try:
        import wsl.zoo
    except ImportError as error:
        found[name] = str(error)
    del sys.modules[name]
print(json.dumps(found))
"""


def test_the_library_does_without():
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    advice = (
        "wsl.zoo needs Optax and scikit-learn. Install the extra: pip install -c "
        "constraints.txt -e '.[zoo]', from a checkout."
    )
    found = json.loads(run.stdout)
    assert found == {"loaded": [], "optax": advice, "sklearn": advice}
