#[coring::test]
#[test]
async fn twice() {}

#[coring::test]
#[should_panic]
#[::core::prelude::v1::test]
async fn by_its_path() {}

fn main() {}
