#[coring::test]
struct Test;

trait Service {
    #[coring::main]
    async fn serve();
}

fn main() {}
