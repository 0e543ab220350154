"""What Rolebook says to people, in English and in Simplified Chinese."""
