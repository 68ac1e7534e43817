# Makes certificates in the current folder, each with the key and kubeconfig that go with it.
# usage: pki.sh authority
#        pki.sh client FILE ORGANISATION NAME SERVER
#        pki.sh server FILE NAME SUBJECT_ALT_NAMES
set -eu
key="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"

sign() { # FILE SUBJECT SUBJECT_ALT_NAMES
    openssl req -new $key -keyout "$1.key" -subj "$2" -addext "subjectAltName=$3" 2> /dev/null |
        openssl x509 -req -CA ca.crt -CAkey ca.key -copy_extensions copyall -days 30 \
            -set_serial "0x$(openssl rand -hex 8)" -out "$1.crt" 2> /dev/null
}

case $1 in
authority)
    openssl req -x509 $key -keyout ca.key -out ca.crt -subj /CN=weave-cluster -days 30 2> /dev/null
    openssl ecparam -name prime256v1 -genkey -noout -out service-accounts.key
    ;;
server)
    sign "$2" "/CN=$3" "$4"
    ;;
client)
    sign "$2" "${3:+/O=$3}/CN=$4" "DNS:$2"
    # Paths are relative to the file, so that it serves at every place the folder is seen at.
    cat > "$2.conf" << EOF
apiVersion: v1
kind: Config
current-context: cluster
contexts: [{name: cluster, context: {cluster: cluster, user: $2}}]
clusters: [{name: cluster, cluster: {server: "$5", certificate-authority: ca.crt}}]
users: [{name: $2, user: {client-certificate: $2.crt, client-key: $2.key}}]
EOF
    ;;
esac
