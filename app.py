"""The WSGI entry: ``app:app`` for any WSGI server; ``python app.py`` starts the production one."""

if __name__ == "__main__":
    from rolebook.__main__ import main

    main(["serve"])
else:
    from rolebook.web.app import create_app

    app = create_app()
