# What the scripts beside this one share. They source it first.
#
# The scripts check the files as they lie (what git ignores is left out), in copies and
# virtual environments of their own, and leave nothing behind. They need git, Python and
# bash 4.
set -euo pipefail
exec </dev/null
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV

work=$(mktemp -d)
stage="start"
finish() {
  local status=$?
  rm -rf "$work"
  if ((status)); then
    printf '\n=== FAILED (exit status %d): %s\n' "$status" "$stage" >&2
  fi
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Nothing that the checks compile or keep outlives them, or comes from before.
export WSL_CACHE="$work/cache"
unset JAX_COMPILATION_CACHE_DIR

begin() { # Names the stage that follows.
  stage=$1
  printf '\n=== %s  [%d s]\n' "$stage" "$SECONDS"
}

checkout() { # A copy of the project in the new directory $1.
  mkdir "$1"
  git -c safe.directory='*' ls-files -z --cached --others --exclude-standard |
    while IFS= read -r -d '' file; do
      if [[ -e $file || -L $file ]]; then printf '%s\0' "$file"; fi
    done |
    tar --create --null --files-from=- | tar --extract --directory="$1"
}

environment() { # A new virtual environment $1 of the interpreter $2, with pip's $3...
  local directory=$1 python=$2
  shift 2
  "$python" -m venv "$directory" && "$directory/bin/python" -m pip install -q "$@"
}

interpreter() { # Prints where Python $1 is: on PATH, or among pyenv's.
  local candidate
  # A shim of pyenv is on PATH and fails for versions that are not switched on.
  for candidate in "python$1" ~/.pyenv/versions/"$1".*/bin/python"$1"; do
    if "$candidate" -c 'import venv' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  echo "There is no python$1 on PATH or in ~/.pyenv/versions." >&2
  return 1
}
