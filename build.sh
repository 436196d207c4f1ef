#!/bin/sh
# One command for every task; without an argument it prints the list of them.
#
# The first run makes an environment in .venv, installs minigrad there in place and builds the C
# extension. Later runs use what is there: they call neither pip nor the network, unless a file
# that the environment or the extension depends on has changed. A changed C file needs no network.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")"

VENV=${VENV:-.venv}
python=$VENV/bin/python
log=build/install.log

usage() {
    cat <<'END'
usage: ./build.sh VERB [ARGUMENT ...]

  demo      train a character LSTM for about two minutes; arguments: python -m minigrad train charlm
  build     make the environment and the C extension, if they are missing or out of date
  test      run the tests; arguments: pytest
  test-c    run the C tests, which need no Python; arguments: make
  sanitize  run the C tests under the address and undefined-behaviour sanitizers; arguments: make
  lint      check style, format and types
  format    sort the imports and format the Python files
  mutants   run the gradient checker on the seeded bugs; arguments: python -m mutants
  bench     compare speeds, three minutes; arguments: python -m benchmarks, as in: recurrent --full
  peers     install what bench compares with: PyTorch, JAX, ONNX Runtime (gigabytes)
  size      count the lines of code, room by room
  check     everything that CI does: lint, test, test-c, sanitize and a short demo
  clean     remove everything that this script made, .venv too

  PYTHON=python3.12          the interpreter of a new environment (default: python3)
  VENV=path                  the environment (default: .venv)
  MINIGRAD_REQUIRE_EXT=1     fail if the C extension cannot be built
END
}

# Every error says three things: what it concerns, expected and got, the remedy.
fail() {
    printf '%s\n  %s\n  remedy: %s\n' "$1" "$2" "$3" >&2
    exit 1
}

version() { "$1" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null; }

check_python() {
    found=$(version "${PYTHON:-python3}") || found="none that runs"
    case $found in
        3.1[1-9].* | 3.[2-9][0-9].*) ;;
        *)
            fail "PYTHON=${PYTHON:-python3}" "expected Python 3.11 or later, got $found" \
                "name another interpreter, for example: PYTHON=python3.12 ./build.sh test"
            ;;
    esac
}

# The same bytes of the same files give the same key; a key that differs makes the thing stale.
environment_key() {
    pwd
    version "$python" || :
    cksum pyproject.toml setup.py csrc/ffi_build.py
}

extension_key() {
    for compiler in ${CC:-cc gcc clang}; do command -v "$compiler" || :; done
    echo "${CC:-} ${CFLAGS:-}"
    find csrc \( -name tests -o -name bench \) -prune -o -name '*.[ch]' -print -o -name '*.def' -print |
        LC_ALL=C sort | xargs cksum
    ls minigrad/_native.* 2>/dev/null || :
}

is_fresh() { [ "$(cat "$1" 2>/dev/null)" = "$2" ]; }

have_extension() { ls minigrad/_native.* >/dev/null 2>&1; }

must_have_extension() { case ${MINIGRAD_REQUIRE_EXT:-0} in 0 | '') false ;; esac }

# requirements KEYS: the list that stands under these keys in pyproject.toml.
requirements() {
    "$python" -c "import tomllib
print(*tomllib.load(open('pyproject.toml', 'rb'))$1)"
}

pip_install() {
    # -v: the log shows what the compiler says. No cache: nothing is written outside this folder.
    "$python" -m pip --no-input --disable-pip-version-check --no-cache-dir install -v "$@" >>$log 2>&1 && return
    tail -n 40 $log >&2
    fail "./build.sh: pip install $*" "expected success, got the error above" \
        "the whole log is $log; the first run needs a network, the extension a C compiler"
}

# install EXTRA: everything from nothing, with the dependencies of that extra of pyproject.toml.
install() {
    echo "minigrad: setting up $VENV (log: $log)" >&2
    rm -f "$VENV"/minigrad.*
    if ! "$python" -m pip --version >/dev/null 2>&1; then
        check_python
        if [ -e "$VENV" ] && [ ! -e "$VENV/pyvenv.cfg" ]; then
            fail "VENV=$VENV" "expected an environment or nothing, got something else" \
                "choose another path, or remove what is there"
        fi
        "${PYTHON:-python3}" -m venv --clear "$VENV"
    fi
    # Built without isolation, so that a rebuild finds the build tools here and not on the network.
    # shellcheck disable=SC2046  # one word per requirement
    pip_install $(requirements '["build-system"]["requires"]')
    build_extension --editable ".[$1]"
    environment_key >"$VENV/minigrad.testing"
    if [ "$1" = dev ]; then environment_key >"$VENV/minigrad.dev"; fi
}

build_extension() {
    # A build that fails must not leave an older binary behind.
    rm -f build/extension.key minigrad/_native.*
    pip_install --no-build-isolation "$@"
    extension_key >build/extension.key
}

# setup EXTRA: do what is missing or out of date, say what runs, leave $python ready.
setup() {
    mkdir -p build
    if [ -n "${PYTHON:-}" ]; then
        check_python
        made_with=$(version "$python") || made_with=$found
        if [ "$made_with" != "$found" ]; then
            fail "PYTHON=$PYTHON" "expected Python $made_with, with which $VENV was made, got $found" \
                "./build.sh clean, or choose another environment: VENV=.venv-$found"
        fi
    fi
    if ! is_fresh "$VENV/minigrad.$1" "$(environment_key)"; then
        : >$log
        install "$1"
    elif ! is_fresh build/extension.key "$(extension_key)" ||
        { must_have_extension && ! have_extension; }; then
        : >$log
        echo "minigrad: building the C extension (log: $log)" >&2
        build_extension --no-index --no-deps --editable .
    fi
    if ! have_extension; then
        reason=$(sed -n -e 's/^ *//' -e '/error: /p' -e 's/^warning: .*building extension .* failed: //p' \
            $log | head -n 1)
        echo "minigrad: no C extension, the NumPy path is in use (${reason:-no error}; log: $log)" >&2
    fi
}

verb=${1:-}
[ $# -eq 0 ] || shift

case $verb in
    demo)
        setup testing
        exec "$python" -m minigrad train charlm "$@"
        ;;
    build)
        # Asked for by name, so a build that once failed is tried again.
        have_extension || rm -f build/extension.key
        setup testing
        ! have_extension || echo "minigrad: the C extension is built and up to date" >&2
        ;;
    test)
        setup testing
        exec "$python" -m pytest "$@"
        ;;
    test-c) exec make -C csrc test "$@" ;;
    sanitize) exec make -C csrc sanitize "$@" ;;
    lint)
        setup dev
        "$python" -m ruff check .
        "$python" -m ruff format --check .
        "$python" -m mypy ${NO_COLOR:+--no-color-output}
        ;;
    format)
        setup dev
        "$python" -m ruff check --fix-only --fixable I,RUF100 .
        "$python" -m ruff format .
        ;;
    mutants)
        setup testing
        PYTHONPATH=tests exec "$python" -m mutants "$@"
        ;;
    bench)
        setup dev
        [ $# -gt 0 ] || set -- recurrent
        exec "$python" -m benchmarks "$@"
        ;;
    peers)
        setup dev
        : >$log
        # shellcheck disable=SC2046  # one word per requirement
        pip_install $(requirements '["project"]["optional-dependencies"]["peers"]')
        echo "minigrad: the peers are installed in $VENV" >&2
        ;;
    size)
        check_python
        exec "${PYTHON:-python3}" tools/size.py "$@"
        ;;
    check)
        ./build.sh lint
        ./build.sh test
        ./build.sh test-c
        ./build.sh sanitize
        rm -rf build/demo
        ./build.sh demo --minutes 0.2 --out build/demo
        echo "check: everything passed"
        ;;
    clean)
        if [ -e csrc/Makefile ]; then make -s -C csrc clean; fi
        rm -rf .venv build dist ./*.egg-info minigrad/_native.*
        rm -rf .benchmarks .hypothesis .mypy_cache .pytest_cache .ruff_cache
        find . -name __pycache__ -type d -prune -exec rm -rf {} +
        ;;
    '' | help | -h | --help) usage ;;
    *)
        usage >&2
        printf '\n./build.sh: no verb "%s"\n' "$verb" >&2
        exit 2
        ;;
esac
