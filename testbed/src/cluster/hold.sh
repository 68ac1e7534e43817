# The end of the first process of a namespace: nothing, until nobody needs the namespace any more.
# Its kernel removes everything in it then, also when the owner of the cluster was killed.
[ ! -e "$OWNER.kept" ] || exec sleep infinity
exec flock "$OWNER" true
