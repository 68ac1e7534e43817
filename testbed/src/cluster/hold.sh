# The end of the first process of a namespace: nothing, until nobody needs the namespace any more.
# Its kernel removes everything in it then, also when the owner of the cluster was killed. Meanwhile
# the shell reaps what its daemons leave: `wait` takes every child that ends.
if [ -e "$OWNER.kept" ]; then
    sleep infinity &
else
    flock "$OWNER" true &
fi
wait $!
