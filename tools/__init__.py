"""What developers run: nothing here is needed to use Rolebook."""
