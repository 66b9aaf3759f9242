#[coring::test]
async fn of_a_test(number: u32) {
    assert_eq!(number, 7);
}

#[coring::main]
async fn main(arguments: Vec<String>, status: u32) -> Result<(), String> {
    println!("{} {status}", arguments.len());
    Ok(())
}
