#[coring::main]
fn main() -> std::io::Result<()> {
    // No second error about this.
    coring::sleep(std::time::Duration::ZERO).await
}

#[coring::test]
fn not_async() {}
