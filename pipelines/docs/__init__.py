"""Write the generated pages and pictures of docs/."""
