# shellcheck shell=bash
# The product and what it needs from pip's index, in a folder: for the managed plugins, the Debian package and the
# Containerfile alike. Sourced; does nothing by itself. The caller has set $repo and $VENV.

# Python's C extensions fit one version of it: that of Debian 12.
PYTHON=3.11

# The named files of this repository, called in it. git leaves out what is merely lying about, and names what was deleted.
sources() {
    git -c safe.directory="${repo:?}" ls-files --cached --others --exclude-standard -- "$@" |
        xargs -d '\n' ls -d 2>/dev/null || true
}

# Puts the product, made of the files that follow, and its dependencies into the folder $1.
make_site() {
    local site=$1 work
    shift
    work=$(mktemp -d)
    # From a copy: setuptools puts into a wheel what an earlier build has left in the folder "build".
    mkdir "$work/source"
    (cd "$repo" && sources "$@" | xargs -d '\n' cp --parents --target-directory="$work/source")
    "$VENV/bin/python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$work" "$work/source"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile --only-binary :all: \
        --python-version "$PYTHON" --target "$site" "$work"/*.whl
    # pip's notes name the folder that this was built in.
    rm -rf "${site:?}"/bin "$site"/*.dist-info/{RECORD,REQUESTED,INSTALLER,direct_url.json} "$work"
}

# Writes the program $1 for the Python package $2, whose folder is $3 where it will run, to $4.
write_program() {
    printf '%s\n' '#!/usr/bin/python3 -IS' 'import sys' "sys.path.append('$3')" \
        "from $2.__main__ import main" 'main()' >"$4/$1"
    chmod 755 "$4/$1"
}
