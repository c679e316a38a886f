# shellcheck shell=bash
# Where this machine's apt gets Debian from. Sourced by engines and plugins; does nothing by itself.

# The address of the mirror with this release's main component, and nothing if apt has none. apt itself reads its
# sources, in whichever of the two formats they are.
mirror() {
    local VERSION_CODENAME='' release component uri
    # shellcheck source=/dev/null
    . /etc/os-release
    # shellcheck disable=SC2016  # the names are apt's
    while IFS='|' read -r release component uri; do
        if [ "$release" = "$VERSION_CODENAME" ] && [ "$component" = main ]; then
            printf '%s' "$uri"
            return
        fi
    done < <(apt-get indextargets --no-release-info --format '$(RELEASE)|$(COMPONENT)|$(REPO_URI)' 'Created-By: Packages')
    printf '%s\n' "cannot find a Debian mirror: apt on this machine has no source for '$VERSION_CODENAME main'. Add one to /etc/apt/sources.list.d." >&2
    return 1
}
