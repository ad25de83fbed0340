#!/usr/bin/env bash
# Makes a small image of Redis for testcontainers out of Debian's packages, where no registry of
# images is reached. Does nothing where there is an image of that name, and where there is no Docker
# engine it says so and fails.
#   usage: scripts/redis-image.sh [name:tag]    redis:7.0 by default
set -euo pipefail

image=${1:-redis:7.0}
if ! docker info >/dev/null 2>&1; then
    echo "no Docker engine answers: start one, or run the tests without" >&2
    exit 1
fi
if docker image inspect "$image" >/dev/null 2>&1; then
    echo "$image is there"
    exit 0
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
packages=$folder/packages
unpacked=$folder/unpacked
root=$folder/root
mkdir -p "$packages/partial" "$unpacked" "$root"/{bin,data,etc,tmp,usr/bin}

# Only downloads: nothing is installed here.
download() {
    apt-get install --quiet=2 --yes --download-only --reinstall --no-install-recommends \
        -o APT::Sandbox::User=root -o "Dir::Cache::archives=$packages" redis-server redis-tools
}
download >/dev/null 2>&1 || { apt-get update --quiet=2 && download >/dev/null; }
for package in "$packages"/*.deb; do
    dpkg --extract "$package" "$unpacked"
done

cp --dereference "$unpacked"/usr/bin/redis-{server,cli} "$root/usr/bin/"
libraries=$(find "$unpacked" -name '*.so*' -printf '%h\n' | sort --unique | paste --serial --delimiters=:)
LD_LIBRARY_PATH=$libraries ldd "$root"/usr/bin/redis-{server,cli} |
    grep --only-matching --extended-regexp '/[^ :]+\.so[^ :]*' | sort --unique |
    while read -r library; do
        install -D --mode=755 "$(readlink --canonicalize "$library")" "$root${library#"$unpacked"}"
    done
echo 'redis:x:999:999::/data:/bin/false' >"$root/etc/passwd"
echo 'redis:x:999:' >"$root/etc/group"
chmod 1777 "$root/tmp"
chown 999:999 "$root/data"

tar --create --numeric-owner --directory "$root" . | docker import \
    --change 'EXPOSE 6379' --change 'WORKDIR /data' --change 'USER 999:999' \
    --change 'CMD ["redis-server", "--save", "", "--protected-mode", "no"]' - "$image" >/dev/null
echo "made $image"
