//! A whole node in a few lines: it joins the mesh of the peers that are given, and allocates an
//! address.
//!
//! Run it twice, on loopback addresses of one host:
//!
//! ```text
//! cargo run --example node -- 127.0.0.1
//! cargo run --example node -- 127.0.0.2 127.0.0.1
//! ```
//!
//! Without arguments it runs both at once, and ends.

use std::error::Error;

use weave_node::{Bridge, Event, MemoryStore, Node};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

async fn start(address: &str, peers: &[String]) -> Result<Node> {
    let node = Node::builder()
        .nickname(address)
        .listen(format!("{address}:6783").parse()?)
        .peers(peers)
        .store(MemoryStore::new())
        .bridge(Bridge::none())
        .ipam("10.32.0.0/12".parse()?)
        .start();
    Ok(node.await?)
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((address, peers)) = arguments.split_first() else { return both().await };
    let node = start(address, peers).await?;
    let mut events = node.events();
    show(&format!("job-1 has {}", node.ipam().allocate("job-1").await?));
    while let Some(event) = events.next().await {
        show(&format!("{event:?}"));
    }
    Ok(())
}

async fn both() -> Result<()> {
    let one = start("127.0.0.1", &[]).await?;
    let mut events = one.events();
    let two = start("127.0.0.2", &["127.0.0.1".to_owned()]).await?;
    while events.next().await != Some(Event::PeerUp(two.name())) {}
    show(&format!("job-1 has {}", one.ipam().allocate("job-1").await?));
    show(&format!("job-2 has {}", two.ipam().allocate("job-2").await?));
    two.shut_down().await;
    one.shut_down().await;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "this is what an example is for")]
fn show(line: &str) {
    println!("{line}");
}
